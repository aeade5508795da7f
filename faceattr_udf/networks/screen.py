"""The screen in front of P-Net; see `faceattr_udf.detection.prefilter`."""

from typing import Final

import torch
from torch import nn

STRIDE: Final = 4
"""Pixels of a half level per output."""

CHANNELS: Final = (16, 32, 64, 64)


class ScreenNet(nn.Module):
    """Fully convolutional: two layers of stride 2, two of stride 1, a score; receptive field 23 px of a half level."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 4
        for index, channels in enumerate(CHANNELS):
            stride = 2 if index < 2 else 1
            conv = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(before, 1, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, h, w, 4), RGB of 0-255 and a channel of anything -> log-odds (n, h', w'), h' = ceil(ceil(h / 2) / 2)."""
        seen = (pixels.permute(0, 3, 1, 2).float() - 127.5) / 64.0
        # The table's filler is no colour.
        seen = seen * seen.new_tensor([1.0, 1.0, 1.0, 0.0])[:, None, None]
        scores: torch.Tensor = self.head(self.body(seen))[:, 0]
        return scores
