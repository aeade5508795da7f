"""The prefilter network, which runs before P-Net; see `faceattr_udf.detection.prefilter`."""

from typing import Final

import torch
from torch import nn

STRIDE: Final = 4
"""Pixels of a half-resolution pyramid level per output."""

CHANNELS: Final = (16, 32, 64, 64)
"""Output channels of the four convolutions; the first two have stride 2."""


class ScreenNet(nn.Module):
    """A fully convolutional binary classifier: four 3 x 3 convolutions; receptive field 23 px of a half level."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 4
        for index, channels in enumerate(CHANNELS):
            stride = 2 if index < 2 else 1
            conv = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
            in_channels = channels
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(in_channels, 1, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, h, w, 4), RGB of 0-255 and an unused channel -> logits (n, h', w') with h' = ceil(ceil(h / 2) / 2)."""
        normalized = (pixels.permute(0, 3, 1, 2).float() - 127.5) / 64.0
        # The fourth channel is padding of the integral image, not a color.
        normalized = normalized * normalized.new_tensor([1.0, 1.0, 1.0, 0.0])[:, None, None]
        logits: torch.Tensor = self.head(self.body(normalized))[:, 0]
        return logits
