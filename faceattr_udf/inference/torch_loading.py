"""Loads PyTorch networks from safetensors, and wraps them so that they have the inputs and outputs of their graphs."""

import importlib
from collections.abc import Collection

from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.wrappers import (
    FoldedPnet,
    FoldedStage,
    ProbabilityOutputs,
    TupleOutput,
    TwoInputProbabilityOutputs,
)
from faceattr_udf.networks.mtcnn import ONet, PNet, RNet
from faceattr_udf.weights import WeightsRecord

_NETWORKS = "faceattr_udf.networks"


def load_torch_network(record: WeightsRecord, weights: bytes) -> nn.Module:
    """Loads a network in evaluation mode.

    Args:
        record: Names the architecture.
        weights: Content of the safetensors file, of any precision.

    Returns:
        The network in float32.

    Raises:
        WeightsError: The architecture is not in this package or needs a package that is not installed, or the weights
            belong to another architecture.
    """
    module, _, name = record.architecture.rpartition(".")
    # A record is data from a user's folder: it may select one of our networks, but not import any other module.
    if module.rpartition(".")[0] != _NETWORKS:
        msg = f"the record {record.name}.json names {record.architecture}, which is not in {_NETWORKS}; correct it"
        raise WeightsError(msg)
    try:
        # Earlier networks have fewer classes. Detectors have none, and their architectures take no argument.
        sizes = {"num_classes": {k: len(v) for k, v in record.classes.items()}} if record.classes else {}
        # Imported by name, because one architecture needs facenet-pytorch and the others do not.
        network = getattr(importlib.import_module(module), name)(**sizes)
        assert isinstance(network, nn.Module)  # noqa: S101 - narrows the type
        network.load_state_dict(load(weights))
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        msg = (
            f"the network {record.architecture} of {record.name}.json cannot be created ({error}); "
            "correct the record or install the missing package"
        )
        raise WeightsError(msg) from error
    except (SafetensorError, RuntimeError) as error:
        msg = f"{record.name}.safetensors does not hold the weights of {record.architecture}; train the model again"
        raise WeightsError(msg) from error
    return network.eval()


def wrap_for_inference(
    network: nn.Module, record: WeightsRecord, positions: Collection[int] | None = None
) -> nn.Module:
    """Wraps a network so that it has the inputs and outputs of its graph, including the softmax temperatures.

    Args:
        network: From `load_torch_network`. It must not be used afterwards, because wrapping may change its layers.
        record: Its record.
        positions: Of an attribute network, the outputs to compute; None means all. The heads of the others are removed.

    Returns:
        A module from the tensors of `record.inputs` to a tuple of outputs.
    """
    if record.task == "attributes":
        outputs = (*record.classes, *(["embedding"] if record.embedding else []))
        if positions is not None:
            outputs = tuple(name for position, name in enumerate(outputs) if position in positions)
            for heads in [module for module in network.modules() if isinstance(module, nn.ModuleDict)]:
                for name in set(heads) & (set(record.classes) - set(outputs)):
                    del heads[name]
        wrapper = TwoInputProbabilityOutputs if record.mirrored else ProbabilityOutputs
        return wrapper(network, outputs, record.temperatures).eval()
    if isinstance(network, PNet):
        return FoldedPnet(network).eval()
    if isinstance(network, RNet | ONet):
        return FoldedStage(network).eval()
    return TupleOutput(network).eval()
