"""The stages of MTCNN: P-Net, R-Net and O-Net.

Zhang, Zhang, Li, Qiao 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks". The
layer shapes are those of facenet-pytorch, because the weights come from there.
"""

import torch
from torch import nn


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
        """Normalized RGB (n, 3, h, w) -> face probability (n, h', w'), box regression (n, h', w', 4)."""
        x = nn.functional.max_pool2d(self.block1(x), 2, 2, ceil_mode=True)
        x = self.block3(self.block2(x))
        return torch.softmax(self.face(x), dim=1)[:, 1], self.box(x).permute(0, 2, 3, 1)


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
        """Normalized RGB (n, 3, 24, 24) -> face probability (n,), box regression (n, 4)."""
        x = nn.functional.max_pool2d(self.block1(x), 3, 2, ceil_mode=True)
        x = nn.functional.max_pool2d(self.block2(x), 3, 2, ceil_mode=True)
        # Flattened in the order (x, y, channel): the weights come from MATLAB, whose arrays are column-major.
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
        """Normalized RGB (n, 3, 48, 48) -> probability (n,), regression (n, 4), landmarks (n, 10): five x, five y."""
        x = nn.functional.max_pool2d(self.block1(x), 3, 2, ceil_mode=True)
        x = nn.functional.max_pool2d(self.block2(x), 3, 2, ceil_mode=True)
        x = nn.functional.max_pool2d(self.block3(x), 2, 2, ceil_mode=True)
        x = self.dense(self.block4(x).permute(0, 3, 2, 1).flatten(1))
        return torch.softmax(self.face(x), dim=1)[:, 1], self.box(x), self.landmarks(x)
