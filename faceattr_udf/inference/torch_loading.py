"""From a record and its safetensors to the network in torch, and to the module that answers as its graph does."""

import importlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.wrappers import Served, ServedTowers
from faceattr_udf.networks.mtcnn import ONet, PNet, RNet, ServedMtcnn
from faceattr_udf.weights import WeightsRecord

_NETWORKS = "faceattr_udf.networks"


def build(record: WeightsRecord, weights: bytes) -> nn.Module:
    """Makes a network for evaluation.

    Args:
        record: Names the architecture.
        weights: Content of its safetensors, of any precision.

    Returns:
        The network in float32.

    Raises:
        WeightsError: The architecture is not one of this package, needs a package that is not installed, or the weights
            belong to another.
    """
    module, _, name = record.architecture.rpartition(".")
    # A record is plain data from somebody's folder: it chooses among our own networks and imports nothing else.
    if module.rpartition(".")[0] != _NETWORKS:
        msg = f"weights {record.name}: {record.architecture} is no network of {_NETWORKS}; correct its record"
        raise WeightsError(msg)
    try:
        # By name, because one architecture needs facenet-pytorch and the others do not.
        network = getattr(importlib.import_module(module), name)()
        assert isinstance(network, nn.Module)  # noqa: S101 - narrows the type
        network.load_state_dict(load(weights))
    except (ImportError, AttributeError, TypeError) as error:
        msg = f"weights {record.name}: the network {record.architecture} cannot be made here ({error})"
        raise WeightsError(msg) from error
    except (SafetensorError, RuntimeError) as error:
        msg = f"weights {record.name}.safetensors do not belong to {record.architecture}; make them again by jobs.train"
        raise WeightsError(msg) from error
    return network.eval()


def serve(network: nn.Module, record: WeightsRecord) -> nn.Module:
    """Wraps a network so that it takes and gives what the record's graph does, calibrated.

    Args:
        network: As `build` makes it; it must not be used afterwards.
        record: Its record.

    Returns:
        Pixels (n, h, w, channels), of attributes as `attributes.views` shows them -> a tuple of outputs.
    """
    if record.task == "attributes":
        outputs = (*record.classes, *(["embedding"] if record.embedding else []))
        serving = ServedTowers if record.mirrored else Served
        return serving(network, outputs, record.temperatures).eval()
    if isinstance(network, PNet | RNet | ONet):
        return ServedMtcnn(network).eval()
    return _OneOutput(network).eval()


class _OneOutput(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.network(pixels),)
