"""Loads a network with the backend of its device."""

import importlib
from pathlib import Path

from faceattr_udf.errors import EngineError
from faceattr_udf.inference.base import CPU, Network
from faceattr_udf.inference.openvino_backend import Graph


def load_network(name: str, folder: str | Path | None = None, threads: int = 1, device: str = CPU) -> Network:
    """Loads and verifies a network for a device.

    Args:
        name: File stem in `faceattr_udf.weights`.
        folder: Other place of the files; None means the package.
        threads: CPU threads of one inference.
        device: "cpu", or a GPU as torch calls it, "cuda:0".

    Raises:
        WeightsError: A file is missing, altered or not that network.
        EngineError: torch is not installed, or it cannot use the GPU.
    """
    if device == CPU:
        return Graph(name, folder, threads)
    try:
        # By name, and only here: torch takes gigabytes of disk and seconds to import, and environments for CPUs have
        # none. An import statement would make it a dependency of the core.
        torch_graph = importlib.import_module("faceattr_udf.inference.torch_backend")
    except (ImportError, OSError) as error:  # OSError: one of CUDA's libraries does not load
        msg = (
            f"{device} needs torch, which cannot be imported ({error}); "
            'install the extra faceattr_udf[gpu] where the images are analysed, or set runtime.device = "cpu"'
        )
        raise EngineError(msg) from error
    network: Network = torch_graph.TorchGraph(name, folder, device)
    return network
