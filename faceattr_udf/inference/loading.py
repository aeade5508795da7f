"""Loads a network with the backend for its device."""

import importlib
from collections.abc import Collection
from pathlib import Path

from faceattr_udf.errors import EngineError
from faceattr_udf.inference.base import CPU, Network
from faceattr_udf.inference.openvino_backend import OpenVinoModel


def load_network(
    name: str,
    folder: str | Path | None = None,
    threads: int = 1,
    device: str = CPU,
    shape: tuple[int, ...] | None = None,
    *,
    outputs: Collection[int] | None = None,
) -> Network:
    """Loads and verifies a network for a device.

    Args:
        name: File stem in `faceattr_udf.weights`.
        folder: Folder of the files; None means the package.
        threads: CPU threads per inference.
        device: "cpu", or the torch name of a GPU, e.g. "cuda:0".
        shape: A shape that inputs often have; see `OpenVinoModel`.
        outputs: Positions of the outputs to compute; None means all.

    Raises:
        WeightsError: A file is missing, altered or does not hold that network.
        EngineError: torch is not installed, or it cannot use the GPU.
    """
    if device == CPU:
        return OpenVinoModel(name, folder, threads, shape, outputs=outputs)
    try:
        # Imported by name and only for GPUs: torch takes gigabytes of disk and seconds to import, and CPU environments
        # do not have it. An import statement would make it a dependency of the core.
        torch_backend = importlib.import_module("faceattr_udf.inference.torch_backend")
    except (ImportError, OSError) as error:  # OSError: one of the CUDA libraries does not load
        msg = (
            f"{device} needs torch, which cannot be imported ({error}); "
            'install the extra faceattr_udf[gpu] on the workers, or set runtime.device = "cpu"'
        )
        raise EngineError(msg) from error
    network: Network = torch_backend.TorchModel(name, folder, device, outputs=outputs)
    return network
