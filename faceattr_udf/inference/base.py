"""The interface of the inference backends, and the devices they run on."""

from typing import Any, Final, Literal, Protocol

import numpy.typing as npt

from faceattr_udf.arrays import Float32Array
from faceattr_udf.weights import WeightsRecord

CPU: Final = "cpu"
FIRST_GPU: Final = "cuda:0"


class Network(Protocol):
    """A loaded network. It is not thread-safe: every thread loads its own.

    Attributes:
        record: The metadata of its weights.
    """

    record: WeightsRecord

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each output without its first axis; only for networks with a fixed input size."""
        ...

    def __call__(self, *inputs: npt.NDArray[Any]) -> list[Float32Array]:
        """Runs the network.

        Args:
            inputs: One array per entry of `record.inputs`, of its shape and dtype: pixels 0-255 in the record's channel
                order.

        Returns:
            The outputs in the order of the network.
        """
        ...


def local_device(requested: Literal["auto", "cpu", "cuda"]) -> str:
    """Returns the device for `runtime.device` where no scheduler assigns GPUs: the first GPU if "cuda" is requested.

    >>> local_device("auto"), local_device("cuda")
    ('cpu', 'cuda:0')
    """
    return FIRST_GPU if requested == "cuda" else CPU
