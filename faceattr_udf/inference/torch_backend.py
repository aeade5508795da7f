"""The GPU backend: networks in PyTorch, loaded from verified safetensors files."""

import os
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from faceattr_udf.arrays import Float32Array
from faceattr_udf.errors import EngineError, WeightsError
from faceattr_udf.inference.torch_loading import load_torch_network, wrap_for_inference
from faceattr_udf.weights import WeightsRecord, load_file, load_record
from faceattr_udf.weights.inputs import InputSpec

# Spark's discovery script numbers GPUs by their PCI bus, like nvidia-smi; CUDA's default is to number them by speed.
# CUDA reads the variable when it starts, which importing torch does not do yet.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

_WARM_UP_SIZE = 64
"""Side of the warm-up images for networks that accept any size, pixels."""


class TorchModel:
    """A `Network` in PyTorch.

    Detectors compute in float32, so that the same candidates pass their thresholds as on the CPU. Attribute networks
    compute in float16, the precision their weights are stored in.
    """

    def __init__(
        self,
        name: str,
        folder: str | Path | None = None,
        device: str = "cuda:0",
        *,
        outputs: Collection[int] | None = None,
    ) -> None:
        """Loads and verifies the network and runs it once, so that an unusable device fails before the first image.

        Args:
            name: File stem in `faceattr_udf.weights`.
            folder: Folder of the files; None means the package.
            device: Its torch name: "cuda:0", or "cpu" to compare the two backends.
            outputs: Positions of the outputs of an attribute network to compute; None means all.

        Raises:
            WeightsError: The safetensors file is missing, altered or does not hold that network.
            EngineError: There is no such GPU, or it cannot run the network.
        """
        self.record: WeightsRecord = load_record(name, folder)
        if f"{name}.safetensors" not in self.record.sha256:
            msg = (
                f"weights {name} have no safetensors file, which GPUs need, but only a graph for the CPU; "
                'set runtime.device = "cpu" or choose another attributes.model'
            )
            raise WeightsError(msg)
        network = load_torch_network(self.record, load_file(self.record, "safetensors", folder))
        self._device = _check_device(device)
        self._dtypes = [np.dtype(spec.dtype) for spec in self.record.inputs]
        self._half = self.record.task == "attributes"
        try:
            self._module = wrap_for_inference(network, self.record, outputs).to(self._device)
        except RuntimeError as error:
            raise _device_error(device, error) from error
        self._shapes = [output.shape[1:] for output in self(*map(_blank, self.record.inputs))]

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """See `Network.output_shapes`."""
        return self._shapes

    def __call__(self, *inputs: npt.NDArray[Any]) -> list[Float32Array]:
        """See `Network.__call__`.

        Raises:
            EngineError: The GPU failed; this process cannot use it any more.
        """
        half = torch.autocast(self._device.type, torch.float16) if self._half else nullcontext()
        # cuDNN's default TF32 rounds float32 to a 10-bit mantissa. Deterministic, so that a retry gives equal results.
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        try:
            with torch.inference_mode(), half, exact:
                arrays = [np.ascontiguousarray(a, dtype) for a, dtype in zip(inputs, self._dtypes, strict=True)]
                outputs = self._module(*(torch.from_numpy(array).to(self._device) for array in arrays))
                return [output.float().cpu().numpy() for output in outputs]
        except torch.OutOfMemoryError:
            raise  # a smaller batch may fit
        except RuntimeError as error:
            raise _device_error(str(self._device), error) from error


def _blank(spec: InputSpec) -> npt.NDArray[Any]:
    size = spec.size or _WARM_UP_SIZE
    return np.zeros((2 * spec.images_per_item, size, size, spec.channels), dtype=spec.dtype)


def _check_device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        msg = (
            f"torch {torch.__version__} sees {count} GPUs, and {name} is not one of them; check nvidia-smi and "
            'CUDA_VISIBLE_DEVICES, install a torch built for this CUDA, or set runtime.device = "cpu"'
        )
        raise EngineError(msg)
    return device


def _device_error(name: str, error: RuntimeError) -> EngineError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return EngineError(f'{name} failed ({reason}); check nvidia-smi, or set runtime.device = "cpu"')
