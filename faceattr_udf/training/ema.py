"""Exponential moving average (EMA) of a network's weights."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def make_ema(network: nn.Module, decay: float) -> AveragedModel:
    """Returns an average of a network's parameters and buffers; call its `update_parameters` after every step.

    The n-th update keeps min(decay, n / (n + 9)) of the average, so that it forgets the initial weights quickly and is
    useful from the first steps on. Integer buffers are copied.

    Args:
        network: Provides the initial weights.
        decay: Share of the average that an update keeps.

    Returns:
        The average in evaluation mode, on the network's device.
    """

    def update(averaged: Sequence[torch.Tensor], current: Sequence[torch.Tensor], n: torch.Tensor | int) -> None:
        kept = min(decay, int(n) / (int(n) + 9.0))
        for average, value in zip(averaged, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1.0 - kept)
            else:
                average.copy_(value)

    ema = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    ema.n_averaged.fill_(1)  # the initial weights count: otherwise the first update would only copy
    return ema.eval()
