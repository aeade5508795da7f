"""Wrappers that give a trained network the interface of inference: raw pixels in, a tuple of outputs out."""

from collections.abc import Mapping
from typing import Final, cast

import torch
from torch import nn

from faceattr_udf.networks.mtcnn import ONet, PNet, RNet
from faceattr_udf.networks.towers import TwoTowers

_CHANNELS: Final = 4
"""Channels of a detector's input: RGB and the padding channel of `IntegralImage`."""


class _Probabilities(nn.Module):
    """Puts the outputs of a network into a fixed order and applies softmax."""

    def __init__(
        self, network: nn.Module, outputs: tuple[str, ...], temperatures: Mapping[str, float] | None = None
    ) -> None:
        """Wraps a network.

        Args:
            network: Returns logits by output name.
            outputs: Output names in the order of the tuple; "embedding" is returned unchanged.
            temperatures: Output -> softmax temperature; 1 for outputs that are missing.
        """
        super().__init__()
        self.network = network
        self.outputs = outputs
        self.temperatures = dict(temperatures or {})

    def _in_order(self, outputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(outputs[n] if n == "embedding" else self._probabilities(n, outputs[n]) for n in self.outputs)

    def _probabilities(self, name: str, logits: torch.Tensor) -> torch.Tensor:
        temperature = self.temperatures.get(name)
        # Graphs are exported without temperatures: a division by 1 would add an operation to each output.
        return torch.softmax(logits if temperature is None else logits.float() / temperature, dim=1)


class ProbabilityOutputs(_Probabilities):
    """Wraps a network whose one input is a batch of faces."""

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """RGB (n, size, size, 3), values 0-255 -> probabilities (n, classes) in the order of `outputs`."""
        return self._in_order(self.network(pixels.permute(0, 3, 1, 2).float()))


class TwoInputProbabilityOutputs(_Probabilities):
    """Wraps `TwoTowers`, the network of mirrored records."""

    def forward(self, pairs: torch.Tensor, small: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Inputs of `TwoTowers.forward_uint8` -> probabilities (n, classes) in the order of `outputs`."""
        return self._in_order(cast("TwoTowers", self.network).forward_uint8(pairs, small))


class TupleOutput(nn.Module):
    """Wraps a network with one output: returns a tuple of it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        """Pixels of any shape that the network takes -> its output."""
        return (self.network(pixels),)


class FoldedMtcnn(nn.Module):
    """Wraps a stage of MTCNN: folds the normalization into the first convolution, and P-Net's heads into one.

    The first layers have no padding, so that (x - 127.5) / 128 followed by a convolution equals another convolution. It
    reads rows of NHWC pixels (red, green, blue, padding) as one channel with a stride of 4, because OpenVINO would
    spend more time on converting NHWC to NCHW than on the convolution. P-Net's two heads become one, because OpenVINO
    would run them one after the other over a map of hundreds of thousands of cells.
    """

    def __init__(self, stage: PNet | RNet | ONet) -> None:
        super().__init__()
        conv = stage.block1[0]
        assert isinstance(conv, nn.Conv2d)  # noqa: S101 - narrows the type
        assert conv.bias is not None  # noqa: S101 - narrows the type
        first = nn.Conv2d(1, conv.out_channels, (3, 3 * _CHANNELS), stride=(1, _CHANNELS))
        assert first.bias is not None  # noqa: S101 - narrows the type
        with torch.no_grad():
            weight = conv.weight / 128.0
            first.bias.copy_(conv.bias - 127.5 * weight.sum(dim=(1, 2, 3)))
            # (out, channel, row, column) -> (out, row, column, channel); the padding channel gets weight 0.
            weight = nn.functional.pad(weight.permute(0, 2, 3, 1), (0, _CHANNELS - 3))
            first.weight.copy_(weight.reshape(first.weight.shape))
        stage.block1[0] = first
        self.stage = stage
        if isinstance(stage, PNet):
            self.head = _joint_head(stage)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(n, h, w, 4), RGB of 0-255 and a padding channel -> the outputs of the stage.

        P-Net has one output, (n, h', w', 5): the log-odds of a face, then the box regression.
        """
        x = pixels.float().flatten(2)[:, None]
        if isinstance(self.stage, PNet):
            return (self.head(self.stage.features(x)).permute(0, 2, 3, 1),)
        outputs: tuple[torch.Tensor, ...] = self.stage(x)
        return outputs


def _joint_head(stage: PNet) -> nn.Conv2d:
    head = nn.Conv2d(stage.face.in_channels, 1 + stage.box.out_channels, 1)
    face, box = stage.face, stage.box
    assert face.bias is not None  # noqa: S101 - narrows the type
    assert box.bias is not None  # noqa: S101 - narrows the type
    assert head.bias is not None  # noqa: S101 - narrows the type
    with torch.no_grad():
        head.weight.copy_(torch.cat([face.weight[1:] - face.weight[:1], box.weight]))
        head.bias.copy_(torch.cat([face.bias[1:] - face.bias[:1], box.bias]))
    return head
