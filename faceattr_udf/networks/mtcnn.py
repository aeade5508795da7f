"""P-Net, R-Net and O-Net of MTCNN (Zhang et al. 2016, "Joint Face Detection and Alignment using Multitask CNNs").

Layer names and shapes are those of facenet-pytorch, whose published weights they carry.
"""

from typing import Final

import torch
from torch import nn

_NUMBERS: Final = 4
"""Of a pixel as it is served: three colours and a filler."""


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel), nn.PReLU(out_channels))


class PNet(nn.Module):
    """The proposal network: fully convolutional, receptive field 12 px, stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = _conv(3, 10, 3)
        self.block2 = _conv(10, 16, 3)
        self.block3 = _conv(16, 32, 3)
        self.face = nn.Conv2d(32, 2, 1)
        self.box = nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised RGB (n, 3, h, w) -> face probability (n, h', w'), box regression (n, h', w', 4)."""
        x = self.features(x)
        return torch.softmax(self.face(x), dim=1)[:, 1], self.box(x).permute(0, 2, 3, 1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised RGB (n, 3, h, w) -> what both heads see, (n, 32, h', w')."""
        x = nn.functional.max_pool2d(self.block1(x), 2, 2, ceil_mode=True)
        features: torch.Tensor = self.block3(self.block2(x))
        return features


class RNet(nn.Module):
    """The refinement network on 24 x 24 px candidates."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = _conv(3, 28, 3)
        self.block2 = _conv(28, 48, 3)
        self.block3 = _conv(48, 64, 2)
        self.dense = nn.Sequential(nn.Linear(576, 128), nn.PReLU(128))
        self.face = nn.Linear(128, 2)
        self.box = nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised RGB (n, 3, 24, 24) -> face probability (n,), box regression (n, 4)."""
        x = nn.functional.max_pool2d(self.block1(x), 3, 2, ceil_mode=True)
        x = nn.functional.max_pool2d(self.block2(x), 3, 2, ceil_mode=True)
        # The weights come from MATLAB, whose arrays are column-major: (x, y, channel) order.
        x = self.dense(self.block3(x).permute(0, 3, 2, 1).flatten(1))
        return torch.softmax(self.face(x), dim=1)[:, 1], self.box(x)


class ONet(nn.Module):
    """The output network on 48 x 48 px candidates, with five landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = _conv(3, 32, 3)
        self.block2 = _conv(32, 64, 3)
        self.block3 = _conv(64, 64, 3)
        self.block4 = _conv(64, 128, 2)
        self.dense = nn.Sequential(nn.Linear(1152, 256), nn.PReLU(256))
        self.face = nn.Linear(256, 2)
        self.box = nn.Linear(256, 4)
        self.landmarks = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalised RGB (n, 3, 48, 48) -> probability (n,), regression (n, 4), landmarks (n, 10): five x, five y."""
        x = nn.functional.max_pool2d(self.block1(x), 3, 2, ceil_mode=True)
        x = nn.functional.max_pool2d(self.block2(x), 3, 2, ceil_mode=True)
        x = nn.functional.max_pool2d(self.block3(x), 2, 2, ceil_mode=True)
        x = self.dense(self.block4(x).permute(0, 3, 2, 1).flatten(1))
        return torch.softmax(self.face(x), dim=1)[:, 1], self.box(x), self.landmarks(x)


class ServedMtcnn(nn.Module):
    """A stage as it is served: raw pixels in, because the normalisation is folded into the first convolution.

    The first layers have no padding, so (x - 127.5) / 128 followed by a convolution is exactly another convolution. It
    reads rows of pixels as they lie in memory, red, green, blue and the filler of `SummedAreas` one after the other, as
    one channel in steps of 4: runtimes put the channels apart first, which takes longer than the convolution. P-Net's
    two heads, which the runtime would compute one after the other over a map of hundreds of thousands of cells, become
    one.
    """

    def __init__(self, stage: PNet | RNet | ONet) -> None:
        super().__init__()
        conv = stage.block1[0]
        assert isinstance(conv, nn.Conv2d)  # noqa: S101 - narrows the type of a layer this file defines
        assert conv.bias is not None  # noqa: S101 - narrows the type
        first = nn.Conv2d(1, conv.out_channels, (3, 3 * _NUMBERS), stride=(1, _NUMBERS))
        assert first.bias is not None  # noqa: S101 - narrows the type
        with torch.no_grad():
            weight = conv.weight / 128.0
            first.bias.copy_(conv.bias - 127.5 * weight.sum(dim=(1, 2, 3)))
            # (out, colour, row, column) -> (out, row, column, colour); the filler has no weight.
            weight = nn.functional.pad(weight.permute(0, 2, 3, 1), (0, _NUMBERS - 3))
            first.weight.copy_(weight.reshape(first.weight.shape))
        stage.block1[0] = first
        self.stage = stage
        if isinstance(stage, PNet):
            self.head = _one_head(stage)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(n, h, w, 4), RGB of 0-255 and one more number -> the stage's outputs.

        P-Net has one, (n, h', w', 5): log-odds of a face, then the box regression.
        """
        x = pixels.float().flatten(2)[:, None]
        if isinstance(self.stage, PNet):
            return (self.head(self.stage.features(x)).permute(0, 2, 3, 1),)
        outputs: tuple[torch.Tensor, ...] = self.stage(x)
        return outputs


def _one_head(stage: PNet) -> nn.Conv2d:
    head = nn.Conv2d(stage.face.in_channels, 1 + stage.box.out_channels, 1)
    face, box = stage.face, stage.box
    assert face.bias is not None  # noqa: S101 - narrows types
    assert box.bias is not None  # noqa: S101 - narrows the type
    assert head.bias is not None  # noqa: S101 - narrows the type
    with torch.no_grad():
        head.weight.copy_(torch.cat([face.weight[1:] - face.weight[:1], box.weight]))
        head.bias.copy_(torch.cat([face.bias[1:] - face.bias[:1], box.bias]))
    return head
