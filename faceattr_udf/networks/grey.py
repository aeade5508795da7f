"""The separate networks: one small convolutional network per attribute, on grayscale faces.

They are one of the three reference systems that the default model is compared with; see `networks.facenet`.
"""

from collections.abc import Mapping

import torch
from torch import nn

from faceattr_udf.labels import NUM_CLASSES

INPUT_SIZE = 64

HEADS: dict[str, int] = {name: NUM_CLASSES[name] for name in ("age", "ethnicity", "emotion")}
"""Attribute -> number of logits; this system has no network for gender."""

_WIDTHS = (24, 48, 96, 192, 192)
_LUMA = (0.299, 0.587, 0.114)


class GrayNet(nn.Sequential):
    """Grayscale (n, 1, 64, 64) -> logits (n, classes): five convolutions with 2 x 2 max pooling, and a linear layer."""

    def __init__(self, classes: int, dropout: float) -> None:
        layers: list[nn.Module] = []
        channels = 1
        for width in _WIDTHS:
            conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        super().__init__(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels * 2 * 2, classes))


class SeparateGrey(nn.Module):
    """Face pixels -> logits per attribute, each from a separate network that shares no layer with the others."""

    def __init__(self, dropout: float = 0.3, num_classes: Mapping[str, int] = HEADS) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: GrayNet(size, dropout) for name, size in num_classes.items()})
        self.register_buffer("luma", torch.tensor(_LUMA).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """RGB (n, 3, 64, 64), values 0-255, of grayscale photographs (equal channels) -> attribute -> logits."""
        assert isinstance(self.luma, torch.Tensor)  # noqa: S101 - narrows the type of a buffer
        gray = (pixels * self.luma).sum(dim=1, keepdim=True) / 127.5 - 1.0
        return {attribute: network(gray) for attribute, network in self.networks.items()}
