"""What a training step minimises: the losses of the tasks, joined by fixed weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from faceattr_udf.training.losses import task_losses
from faceattr_udf.training.settings import TrainingSettings

Outputs = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Faces of one step with their labels, -1 where unlabelled.

    Attributes:
        views: float32 (n, 3, size, size) RGB, 0-255.
        age_range: float32 (n, 2), years.
        labels: Attribute -> int64 (n,).
        identity: int64 (n,).
    """

    views: torch.Tensor
    age_range: torch.Tensor
    labels: Mapping[str, torch.Tensor]
    identity: torch.Tensor


Objective = Callable[[Outputs, Batch], tuple[torch.Tensor, dict[str, float]]]
"""Outputs of the network and the batch -> the loss, a scalar, and figures for the log."""


class WeightedSum:
    """The task losses, each times a fixed weight."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """See `Objective`."""
        losses = task_losses(outputs, batch.age_range, batch.labels, self._settings)
        total = torch.stack([self._settings.task_weights[name] * loss for name, loss in losses.items()]).sum()
        return total, {name: float(loss.detach()) for name, loss in losses.items()}
