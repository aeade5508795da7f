"""The interface of inference backends, and the devices they run on."""

from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from faceattr_udf.weights import WeightsRecord

CPU: Final = "cpu"
FIRST_GPU: Final = "cuda:0"


class Network(Protocol):
    """A loaded network; not thread-safe, so every thread has its own.

    Attributes:
        record: What travels with its weights.
    """

    record: WeightsRecord

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each output without its first axis; for networks whose other axes are fixed."""
        ...

    def __call__(self, *pixels: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """Runs the network.

        Args:
            pixels: One array (n, height, width, channels) in the record's colour order, values 0-255: uint8 with three
                channels for attributes, float32 with four for the detector. Of a mirrored record two, as
                `attributes.views` makes them.

        Returns:
            The outputs in the graph's order.
        """
        ...


def unscheduled_device(asked: Literal["auto", "cpu", "cuda"]) -> str:
    """The device that `runtime.device` means where nobody assigns GPUs: the first one, but only when asked for.

    >>> unscheduled_device("auto"), unscheduled_device("cuda")
    ('cpu', 'cuda:0')
    """
    return FIRST_GPU if asked == "cuda" else CPU
