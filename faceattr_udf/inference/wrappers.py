"""Wrappers that give a trained network the interface of inference: raw pixels in, a tuple of outputs out."""

from collections.abc import Mapping
from typing import Final, cast

import torch
from torch import nn

from faceattr_udf.networks.mtcnn import ONet, PNet, RNet
from faceattr_udf.networks.towers import TwoTowers

_CHANNELS: Final = 4
"""Channels of a detector's input: RGB and the padding channel of `IntegralImage`."""

_OUTSIDE: Final = -1e9
"""Weight of the channel that marks pixels outside a level; far below every value of the first convolution."""


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


class FoldedStage(nn.Module):
    """Wraps R-Net or O-Net: folds the normalization into the first convolution, which reads rows of pixels."""

    def __init__(self, stage: RNet | ONet) -> None:
        super().__init__()
        stage.block1[0] = _row_convolution(*_folded(_convolution(stage.block1[0])))
        self.stage = stage

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(n, size, size, 4), RGB of 0-255 and a padding channel -> the outputs of the stage."""
        outputs: tuple[torch.Tensor, ...] = self.stage(_rows(pixels))
        return outputs


class FoldedPnet(nn.Module):
    """Wraps P-Net: folds the normalization, leaves pixels outside a level out of the pooling, and joins the heads.

    Levels of odd size share a canvas with others, and their last pooled row or column must not see beyond them, as it
    does not at the end of an image. The fourth channel marks such pixels: it makes the first convolution so low that
    the other values of the pooling win. Its activation would turn low values into high ones where the slope s is
    negative, so it moves behind the pooling, with the same result: a rising function commutes with a maximum, and a
    falling and rising one is the maximum of two linear ones, max(x, s x), each a channel of its own. That maximum is
    relu(x - s x) + s x: a 1 x 1 convolution, a PReLU, and the second convolution, which adds up.

    OpenVINO would run the two heads one after the other over maps of many thousand cells; they become one.
    """

    def __init__(self, stage: PNet) -> None:
        super().__init__()
        self.head = _joint_head(stage)
        self.block3 = stage.block3
        weight, bias = _folded(_convolution(stage.block1[0]))
        activation = stage.block1[1]
        assert isinstance(activation, nn.PReLU)  # noqa: S101 - narrows the type
        slopes = activation.weight.detach()
        rising, falling = (torch.flatten(torch.nonzero(which)) for which in (slopes >= 0, slopes < 0))
        n_rising, n_falling = len(rising), len(falling)
        negative = slopes[falling]
        weight = torch.cat([weight[rising], weight[falling], weight[falling] * negative[:, None, None, None]])
        weight[..., -1] = _OUTSIDE
        self.first = _row_convolution(weight, torch.cat([bias[rising], bias[falling], bias[falling] * negative]))
        channels = n_rising + 2 * n_falling
        self.difference = nn.Conv2d(channels, channels, 1, bias=False)
        self.activation = nn.PReLU(channels)
        second = _convolution(stage.block2[0])
        self.second = nn.Conv2d(channels, second.out_channels, 3)
        self.second_activation = stage.block2[1]
        with torch.no_grad():
            matrix = torch.eye(channels)
            matrix[n_rising : n_rising + n_falling, n_rising + n_falling :] = -torch.eye(n_falling)
            self.difference.weight.copy_(matrix[:, :, None, None])
            self.activation.weight.copy_(torch.cat([slopes[rising], torch.zeros(n_falling), torch.ones(n_falling)]))
            columns = torch.cat([rising, falling, falling])
            self.second.weight.copy_(second.weight[:, columns])
            _bias(self.second).copy_(_bias(second))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        """Pixels -> cells.

        Args:
            pixels: (n, h, w, 4), RGB of 0-255, and 1 where a pixel does not belong to the level, 0 elsewhere.

        Returns:
            (n, h', w', 5): the log-odds of a face, then the box regression.
        """
        x = nn.functional.max_pool2d(self.first(_rows(pixels)), 2, 2, ceil_mode=True)
        x = self.second_activation(self.second(self.activation(self.difference(x))))
        return (self.head(self.block3(x)).permute(0, 2, 3, 1),)


def _convolution(layer: nn.Module) -> nn.Conv2d:
    assert isinstance(layer, nn.Conv2d)  # noqa: S101 - narrows the type
    return layer


def _bias(convolution: nn.Conv2d) -> torch.Tensor:
    assert convolution.bias is not None  # noqa: S101 - narrows the type
    return convolution.bias


def _folded(convolution: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Folds the normalization into a convolution without padding: (x - 127.5) / 128 and it are another convolution.

    Returns:
        Its weight, (out, row, column, channel), where the padding channel gets 0, and its bias.
    """
    with torch.no_grad():
        weight = convolution.weight / 128.0
        bias = _bias(convolution) - 127.5 * weight.sum(dim=(1, 2, 3))
        return nn.functional.pad(weight.permute(0, 2, 3, 1), (0, _CHANNELS - 3)), bias


def _row_convolution(weight: torch.Tensor, bias: torch.Tensor) -> nn.Conv2d:
    """Returns a convolution that reads rows of NHWC pixels as one channel with a stride of 4.

    OpenVINO would spend more time on converting NHWC to NCHW than on the convolution.
    """
    out, height, width, _ = weight.shape
    convolution = nn.Conv2d(1, out, (height, width * _CHANNELS), stride=(1, _CHANNELS))
    with torch.no_grad():
        convolution.weight.copy_(weight.reshape(convolution.weight.shape))
        _bias(convolution).copy_(bias)
    return convolution


def _rows(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float().flatten(2)[:, None]


def _joint_head(stage: PNet) -> nn.Conv2d:
    head = nn.Conv2d(stage.face.in_channels, 1 + stage.box.out_channels, 1)
    face, box = stage.face, stage.box
    with torch.no_grad():
        head.weight.copy_(torch.cat([face.weight[1:] - face.weight[:1], box.weight]))
        _bias(head).copy_(torch.cat([_bias(face)[1:] - _bias(face)[:1], _bias(box)]))
    return head
