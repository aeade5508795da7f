"""Narrowing: a MobileNet v1 of fewer channels that starts from what a wider one knows."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceattr_udf.networks.mobilenet import WIDTHS, MobileNetV1


@torch.no_grad()
def narrow(wide: MobileNetV1, narrower: MobileNetV1, crops: npt.NDArray[np.uint8]) -> None:
    """Gives a network those channels of a wider one that matter most to the layers that read them, in place.

    A channel matters as much as it varies what the pointwise layer of the next block gives: the variance that it comes
    there with, times the squares of its weights there, after normalisation. What a lost channel contributes on average
    goes into that layer's statistics. A relative of He, Zhang, Sun 2017, "Channel Pruning for Accelerating Very Deep
    Neural Networks", without its refitting of weights, which training does.

    Args:
        wide: Trained; in evaluation mode afterwards, otherwise as it was.
        narrower: Of the same heads, nowhere wider, and as wide at its last block; overwritten.
        crops: uint8 (n, size, size, 3) RGB, some hundred, on which the variances are measured.

    Raises:
        ValueError: A block of `narrower` is wider, or its last one has other channels.
    """
    blocks = range(1, len(WIDTHS) + 1)
    x = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float()
    assert isinstance(wide.mean_pixel, torch.Tensor)  # noqa: S101 - narrows the type of a buffer
    x = wide.eval().features[0](x - wide.mean_pixel)
    kept, lost = [], []
    for block in blocks:
        x = wide.features[2 * block - 1](x)
        conv, norm = _parts(wide, 2 * block)
        weight = conv.weight[:, :, 0, 0]
        variance, mean = torch.var_mean(x, dim=(0, 2, 3))
        assert norm.running_var is not None  # noqa: S101 - narrows the type
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        importance = variance * (weight * scale[:, None]).square().sum(0)
        count = _parts(narrower, 2 * block)[0].in_channels
        if count > len(importance):
            msg = f"block {block - 1} has {len(importance)} channels, fewer than the {count} it is narrowed to"
            raise ValueError(msg)
        kept.append(importance.topk(count).indices.sort().values)
        dropped = torch.ones(len(importance), dtype=torch.bool).index_fill(0, kept[-1], value=False)
        lost.append(weight[:, dropped] @ mean[dropped])
        x = wide.features[2 * block](x)
    outputs = x.shape[1]
    if _parts(narrower, 2 * blocks[-1])[0].out_channels != outputs:
        msg = f"the last block has {outputs} channels, which stay: the heads read them all"
        raise ValueError(msg)
    kept.append(torch.arange(outputs))
    _copy(wide, narrower, 0, kept[0], torch.arange(3))
    for block in blocks:
        _copy(wide, narrower, 2 * block - 1, kept[block - 1], torch.arange(1))
        _copy(wide, narrower, 2 * block, kept[block], kept[block - 1])
        average = _parts(narrower, 2 * block)[1].running_mean
        assert average is not None  # noqa: S101 - narrows the type
        average -= lost[block - 1][kept[block]]
    narrower.heads.load_state_dict(wide.heads.state_dict())


def _copy(wide: MobileNetV1, narrower: MobileNetV1, place: int, outputs: torch.Tensor, inputs: torch.Tensor) -> None:
    (conv, norm), (own_conv, own_norm) = _parts(wide, place), _parts(narrower, place)
    own_conv.weight.copy_(conv.weight[outputs][:, inputs])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(own_norm, name).copy_(getattr(norm, name)[outputs])


def _parts(network: MobileNetV1, place: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    unit = network.features[place]
    assert isinstance(unit, nn.Sequential)  # noqa: S101 - narrows the type of our own layer
    conv, norm = unit[0], unit[1]
    assert isinstance(conv, nn.Conv2d)  # noqa: S101 - narrows the type
    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 - narrows the type
    return conv, norm
