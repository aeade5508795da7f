"""The average of a network's weights over its training, which is what is kept."""

import torch
from torch import nn


def average(averaged: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves an exponential moving average of weights and statistics by one step, in place.

    Args:
        averaged: Of the same class as `network`.
        network: After the step.
        decay: How much of the average stays.
        step: From 0; young averages forget their start faster, so that they are useful from the first steps on.
    """
    decay = min(decay, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        current = network.state_dict()
        for key, value in averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[key], 1.0 - decay)
            else:
                value.copy_(current[key])
