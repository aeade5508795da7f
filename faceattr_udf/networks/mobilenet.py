"""MobileNet v1 with one linear head per attribute.

Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications".
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from faceattr_udf.labels import NUM_CLASSES
from faceattr_udf.networks.depthwise import strided_depthwise
from faceattr_udf.weights.inputs import MEAN_PIXEL, PADDING

# Output channels and strides of the thirteen depthwise-separable blocks.
_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class SamePadConv(nn.Conv2d):
    """3 x 3 convolution with TensorFlow's "same" padding: with stride 2 it is on the right and at the bottom only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, c', ceil(h / stride), ceil(w / stride)); equals TensorFlow if h and w are even."""
        if self.stride[0] == 1:
            return nn.functional.conv2d(x, self.weight, padding=1, groups=self.groups)
        x = nn.functional.pad(x, (0, PADDING, 0, PADDING))
        if self.training and self.groups > 1 and x.device.type == "cpu":
            return strided_depthwise(x, self.weight)
        return super().forward(x)


def _conv_unit(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels, eps=1e-3), nn.ReLU6())


class MobileNetV1(nn.Module):
    """Face pixels -> logits per attribute.

    Attributes:
        features: 27 convolution units: the first one, then depthwise and pointwise ones in turn.
        heads: Attribute -> linear layer on the pooled features.
        mean_pixel: (1, 3, 1, 1).
    """

    mean_pixel: torch.Tensor

    def __init__(self, dropout: float = 0.2, num_classes: Mapping[str, int] = NUM_CLASSES) -> None:
        """Builds the network with random weights.

        Args:
            dropout: Probability of dropping a pooled feature.
            num_classes: Attribute -> number of its logits; one head per attribute.
        """
        super().__init__()
        channels = 32
        units = [_conv_unit(SamePadConv(3, channels, 3, stride=2, bias=False))]
        for out_channels, stride in zip(_WIDTHS, _STRIDES, strict=True):
            units.append(_conv_unit(SamePadConv(channels, channels, 3, stride=stride, groups=channels, bias=False)))
            units.append(_conv_unit(nn.Conv2d(channels, out_channels, 1, bias=False)))
            channels = out_channels
        self.features = nn.Sequential(*units)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(channels, size) for name, size in num_classes.items()})
        self.register_buffer("mean_pixel", torch.tensor(MEAN_PIXEL).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """RGB (n, 3, height, width), values 0-255 -> attribute -> logits (n, classes)."""
        return self._classify(self.features(pixels - self.mean_pixel))

    def forward_uint8(self, padded: torch.Tensor) -> dict[str, torch.Tensor]:
        """Like `forward`, for padded uint8 NHWC input.

        The mean pixel is subtracted after the first convolution instead of before it, so that an 8-bit graph convolves
        the uint8 pixels directly, without converting them first. The padding, `PADDING_VALUE`, differs by at most 12
        from the mean pixel, which is the padding of `forward`.

        Args:
            padded: RGB (n, height + 1, width + 1, 3), values 0-255, from `attributes.preprocess`.
        """
        first = cast("nn.Sequential", self.features[0])
        conv, norm = cast("nn.Conv2d", first[0]), cast("nn.BatchNorm2d", first[1])
        maps = nn.functional.conv2d(padded.permute(0, 3, 1, 2).float(), conv.weight, stride=2)
        mean = cast("torch.Tensor", norm.running_mean) + (conv.weight.detach() * self.mean_pixel).sum(dim=(1, 2, 3))
        maps = nn.functional.batch_norm(maps, mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return self._classify(self.features[1:](first[2](maps)))

    def _classify(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.dropout(maps.mean(dim=(2, 3)))
        return {attribute: head(features) for attribute, head in self.heads.items()}
