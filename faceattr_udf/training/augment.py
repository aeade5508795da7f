"""Augmentation of face crops, vectorised over a batch: pose of the frame, light, grey, low resolution, occlusion."""

import torch
from torch import nn

SOURCE_SIZE = 128
"""Training crops are cut this large, so that the 112 px window of production can move and breathe inside them."""


def center_window(crops: torch.Tensor, size: int) -> torch.Tensor:
    """What production would see: the middle of (n, c, h, w), (n, c, size, size)."""
    top, left = (crops.shape[2] - size) // 2, (crops.shape[3] - size) // 2
    return crops[:, :, top : top + size, left : left + size]


def augment(crops: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Draws a random view of every face.

    Args:
        crops: float32 (n, 3, SOURCE_SIZE, SOURCE_SIZE) RGB, values 0-255.
        size: Side of the result, pixels.
        generator: The source of all randomness.

    Returns:
        float32 (n, 3, size, size), values 0-255.
    """
    views = _geometry(crops, size, generator)
    views = _low_resolution(views, generator)
    views = _light(views, generator)
    return _erase(views, generator)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _geometry(crops: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    n = len(crops)
    angle = _uniform(n, -0.26, 0.26, generator)  # 15 degrees
    scale = size / SOURCE_SIZE * _uniform(n, 0.85, 1.15, generator)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    shift = _uniform(2 * n, -0.06, 0.06, generator).view(n, 2)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], dim=1)
    grid = nn.functional.affine_grid(theta.view(n, 2, 3), [n, 3, size, size], align_corners=False)
    return nn.functional.grid_sample(crops, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _low_resolution(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    # One factor for a random quarter of the batch: a small face in a large photograph.
    n, size = len(views), views.shape[3]
    small = int(torch.randint(20, 72, (1,), generator=generator))
    chosen = torch.randperm(n, generator=generator)[: n // 4]
    shrunk = nn.functional.interpolate(views[chosen], size=(small, small), mode="area")
    views[chosen] = nn.functional.interpolate(shrunk, size=(size, size), mode="bilinear", align_corners=False)
    return views


def _light(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    n = len(views)
    grey = (torch.rand(n, generator=generator) < 0.25).view(n, 1, 1, 1)
    luma = (views * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    views = torch.where(grey, luma, views)
    contrast = _uniform(n, 0.7, 1.3, generator).view(n, 1, 1, 1)
    brightness = _uniform(n, -30.0, 30.0, generator).view(n, 1, 1, 1)
    tint = _uniform(3 * n, 0.9, 1.1, generator).view(n, 3, 1, 1)
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    return (((views - mean) * contrast + mean) * torch.where(grey, 1.0, tint) + brightness).clamp(0.0, 255.0)


def _erase(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    n, size = len(views), views.shape[3]
    steps = torch.arange(size).float()
    extent = _uniform(2 * n, 0.1, 0.4, generator).view(n, 2) * size
    start = torch.rand((n, 2), generator=generator) * (size - extent)
    inside = (steps[None, None] >= start[..., None]) & (steps[None, None] < (start + extent)[..., None])
    chosen = torch.rand(n, generator=generator) < 0.25
    hole = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]
    fill = _uniform(n, 0.0, 255.0, generator).view(n, 1, 1, 1)
    return torch.where(hole[:, None], fill, views)
