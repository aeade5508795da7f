"""Narrowing: a MobileNet v1 of fewer channels that does what a wider one does, as nearly as it can without training."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceattr_udf.networks.mobilenet import WIDTHS, MobileNetV1

_BLOCKS = range(1, len(WIDTHS) + 1)
_BATCH = 64
_CHOOSING = 8  # batches on which variances are measured: means over pixels, for which some hundred faces are enough
# Of the mean variance of a channel: enough where faces are fewer than weights, nothing where they are many.
_RIDGE = 1e-3


@torch.no_grad()
def narrow(wide: MobileNetV1, narrower: MobileNetV1, crops: npt.NDArray[np.uint8]) -> None:
    """Gives a network those channels of a wider one that matter most to the layers that read them, in place.

    A channel matters as much as it varies what the pointwise layer of the next block gives: the variance that it comes
    there with, times the squares of its weights there, after normalisation. Then, block after block, the weights of the
    pointwise layer are those that come nearest to what the wide network computes there from all of its channels, given
    what the narrower one computes up to there: least squares over all pixels, held near the weights of the wide one.
    After He, Zhang, Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", with a choice of channels
    that takes one pass.

    Args:
        wide: Trained; in evaluation mode afterwards, otherwise as it was.
        narrower: Of the same heads, nowhere wider, and as wide at its last block; overwritten, in evaluation mode
            afterwards.
        crops: uint8 (n, size, size, 3) RGB, a thousand or more for a good fit. What the first blocks give for all of
            them is held in memory, 3 MB for a face of 160 px.

    Raises:
        ValueError: A block of `narrower` is wider, or its last one has other channels.
    """
    wide.eval()
    narrower.eval()
    assert isinstance(wide.mean_pixel, torch.Tensor)  # noqa: S101 - narrows the type of a buffer
    batches = torch.split(torch.from_numpy(np.ascontiguousarray(crops)), _BATCH)
    pixels = [batch.permute(0, 3, 1, 2).float() - wide.mean_pixel for batch in batches]
    kept = _choose(wide, narrower, pixels[:_CHOOSING])
    _copy(wide, narrower, 0, kept[0], torch.arange(3))
    given = [wide.features[0](batch) for batch in pixels]
    own = [batch[:, kept[0]] for batch in given]
    for block in _BLOCKS:
        _copy(wide, narrower, 2 * block - 1, kept[block - 1], torch.arange(1))
        _copy(wide, narrower, 2 * block, kept[block], kept[block - 1])
        _through(wide, 2 * block - 1, given)
        _through(narrower, 2 * block - 1, own)
        wanted = _parts(wide, 2 * block)[0].weight[kept[block], :, 0, 0]
        _refit(wanted, *_parts(narrower, 2 * block), zip(given, own, strict=True))
        _through(wide, 2 * block, given)
        _through(narrower, 2 * block, own)
    narrower.heads.load_state_dict(wide.heads.state_dict())


def _choose(wide: MobileNetV1, narrower: MobileNetV1, pixels: list[torch.Tensor]) -> list[torch.Tensor]:
    """The channels that stay, ascending, of the first layer and of every block."""
    x = wide.features[0](torch.cat(pixels))
    kept = []
    for block in _BLOCKS:
        x = wide.features[2 * block - 1](x)
        conv, norm = _parts(wide, 2 * block)
        assert norm.running_var is not None  # noqa: S101 - narrows the type
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        importance = x.var(dim=(0, 2, 3)) * (conv.weight[:, :, 0, 0] * scale[:, None]).square().sum(0)
        count = _parts(narrower, 2 * block)[0].in_channels
        if count > len(importance):
            msg = f"block {block - 1} has {len(importance)} channels, fewer than the {count} it is narrowed to"
            raise ValueError(msg)
        kept.append(importance.topk(count).indices.sort().values)
        x = wide.features[2 * block](x)
    outputs = x.shape[1]
    if _parts(narrower, 2 * _BLOCKS[-1])[0].out_channels != outputs:
        msg = f"the last block has {outputs} channels, which stay: the heads read them all"
        raise ValueError(msg)
    return [*kept, torch.arange(outputs)]


def _through(network: MobileNetV1, place: int, batches: list[torch.Tensor]) -> None:
    """Replaces what a layer reads by what it gives, batch by batch, so that both are never held at once."""
    for index, batch in enumerate(batches):
        batches[index] = network.features[place](batch)


def _refit(
    wanted: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, read: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """Brings a pointwise layer near a wider one; its normalisation takes up the difference of the means.

    Args:
        wanted: Weights (outputs, more inputs) of the wider layer.
        conv: The layer, whose weights are where the fit starts from and is held near.
        norm: What follows it.
        read: Batches of what the wider layer and this one read.
    """
    weight = conv.weight[:, :, 0, 0]
    n_outputs, n_inputs = weight.shape
    count = 0
    mean, off = torch.zeros(n_inputs, dtype=torch.float64), torch.zeros(n_outputs, dtype=torch.float64)
    squares = torch.zeros(n_inputs, n_inputs, dtype=torch.float64)
    products = torch.zeros(n_outputs, n_inputs, dtype=torch.float64)
    for given, own in read:
        x = own.transpose(0, 1).flatten(1)
        lacking = wanted @ given.transpose(0, 1).flatten(1) - weight @ x
        count += x.shape[1]
        mean += x.sum(1)
        off += lacking.sum(1)
        squares += x @ x.T
        products += lacking @ x.T
    mean, off = mean / count, off / count
    covariance = squares / count - mean.outer(mean)
    ridge = _RIDGE * covariance.diagonal().mean() * torch.eye(n_inputs, dtype=torch.float64)
    change = torch.linalg.solve(covariance + ridge, (products / count - off.outer(mean)).T).T
    conv.weight += change.float()[:, :, None, None]
    assert norm.running_mean is not None  # noqa: S101 - narrows the type
    norm.running_mean += (change @ mean - off).float()


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
