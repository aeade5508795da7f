"""The GPU runtime: the network of a verified safetensors file in torch, behind the interface of the CPU's graphs."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from faceattr_udf.attributes.preprocess import views
from faceattr_udf.errors import EngineError, WeightsError
from faceattr_udf.inference.torch_loading import build, serve
from faceattr_udf.weights import WeightsRecord, load_file, load_record

# Spark's discovery script counts GPUs as nvidia-smi does, by their place on the bus; CUDA by itself by their speed.
# The variable is read when CUDA starts, which importing torch does not do yet.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

_ANY_SIDE = 64


class TorchGraph:
    """A `faceattr_udf.inference.openvino_backend.Network` in torch.

    Detectors compute in float32, so that the same candidates pass their thresholds; attributes in float16, which is
    also what their weights are kept in.
    """

    def __init__(self, name: str, folder: str | Path | None = None, device: str = "cuda:0") -> None:
        """Loads, verifies, and runs the network once, so that a device that cannot is known before any image.

        Args:
            name: File stem in `faceattr_udf.weights`.
            folder: Other place of the files; None means the package.
            device: As torch calls it: "cuda:0", or "cpu", which is there to compare both runtimes.

        Raises:
            WeightsError: The safetensors are missing, altered or not that network.
            EngineError: There is no such GPU, or it cannot run the network.
        """
        self.record: WeightsRecord = load_record(name, folder)
        if f"{name}.safetensors" not in self.record.sha256:
            msg = (
                f"weights {name} come without the safetensors that a GPU needs, only as a graph for the CPU; "
                'set runtime.device = "cpu" or choose another attributes.model'
            )
            raise WeightsError(msg)
        network = build(self.record, load_file(self.record, "safetensors", folder))
        self._device = _usable(device)
        self._half = self.record.task == "attributes"
        self._dtype: type[np.generic] = np.uint8 if self._half else np.float32
        side, channels = self.record.input_size or _ANY_SIDE, 3 if self._half else 4
        try:
            self._served = serve(network, self.record).to(self._device)
        except RuntimeError as error:
            raise _failed(device, error) from error
        first = self(*views(self.record, np.zeros((2, side, side, channels), dtype=self._dtype)))
        self._shapes = [output.shape[1:] for output in first]

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """See `Network.output_shapes`."""
        return self._shapes

    def __call__(self, *pixels: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """See `Network.__call__`.

        Raises:
            EngineError: The GPU failed; once it has, this process cannot use it any more.
        """
        half = torch.autocast(self._device.type, torch.float16) if self._half else nullcontext()
        # TF32, which cuDNN would take by itself, rounds float32 to ten bits. Deterministic: a re-run repeats the run.
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        try:
            with torch.inference_mode(), half, exact:
                whole = [torch.from_numpy(np.ascontiguousarray(array, self._dtype)) for array in pixels]
                outputs = self._served(*(array.to(self._device) for array in whole))
                return [output.float().cpu().numpy() for output in outputs]
        except torch.OutOfMemoryError:
            raise  # fewer images may fit
        except RuntimeError as error:
            raise _failed(str(self._device), error) from error


def _usable(name: str) -> torch.device:
    device = torch.device(name)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        msg = (
            f"torch {torch.__version__} sees {count} GPUs here, and {name} is not among them; look at nvidia-smi and "
            'CUDA_VISIBLE_DEVICES, install a torch built for this CUDA, or set runtime.device = "cpu"'
        )
        raise EngineError(msg)
    return device


def _failed(name: str, error: RuntimeError) -> EngineError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return EngineError(f'{name} failed ({reason}); look at nvidia-smi, or set runtime.device = "cpu"')
