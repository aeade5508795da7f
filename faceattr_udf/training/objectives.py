"""What a training step minimises: the losses of the tasks, joined by fixed or by dynamic weights."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from faceattr_udf.datasets.labelled_faces import UNLABELLED
from faceattr_udf.training.losses import soft_loss, task_losses, triplet_loss
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
        soft: Attribute -> float32 (n, classes), what teachers say; empty without teachers.
        share: Of these labels; the rest belongs to those of `other`.
        other: The faces that are mixed into the views, in their order; None: none.
    """

    views: torch.Tensor
    age_range: torch.Tensor
    labels: Mapping[str, torch.Tensor]
    identity: torch.Tensor
    soft: Mapping[str, torch.Tensor] = field(default_factory=dict)
    share: float = 1.0
    other: "Batch | None" = None

    def on(self, device: torch.device) -> "Batch":
        """The batch, nothing mixed into it yet, on a device; views that are bytes are numbers there."""
        return replace(
            self,
            views=self.views.to(device, non_blocking=True).float(),
            age_range=self.age_range.to(device),
            labels={name: values.to(device) for name, values in self.labels.items()},
            identity=self.identity.to(device),
            soft={name: values.to(device) for name, values in self.soft.items()},
        )

    def mixed(self, share: float, order: torch.Tensor) -> "Batch":
        """The batch with every view mixed with that of another face of it.

        Args:
            share: Of a face itself, between 0 and 1.
            order: (n,), the place of the face that is mixed into each.
        """
        other = Batch(
            views=self.views[order],
            age_range=self.age_range[order],
            labels={name: values[order] for name, values in self.labels.items()},
            identity=self.identity[order],
            soft={name: values[order] for name, values in self.soft.items()},
        )
        return replace(self, views=torch.lerp(other.views, self.views, share), share=share, other=other)

    def labelled_tasks(self) -> set[str]:
        """The attributes that at least one face has a label for."""
        tasks = {name for name, values in self.labels.items() if bool((values != UNLABELLED).any())}
        return tasks | ({"age"} if bool((self.age_range[:, 0] != UNLABELLED).any()) else set())


Objective = Callable[[Outputs, Batch], tuple[torch.Tensor, dict[str, float]]]
"""Outputs of the network and the batch -> the loss, a scalar, and figures for the log."""


def loss_of_mixed(objective: Objective, outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a batch that may be mixed: the share of each view's own labels, and the rest of the other's."""
    total, figures = objective(outputs, batch)
    if batch.other is None:
        return total, figures
    other, _ = objective(outputs, batch.other)
    return batch.share * total + (1.0 - batch.share) * other, figures


class WeightedSum:
    """The task losses, each times a fixed weight."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """See `Objective`."""
        losses = task_losses(outputs, batch.age_range, batch.labels, self._settings)
        figures = {name: float(loss.detach()) for name, loss in losses.items()}
        losses = _with_teachers(losses, outputs, batch, self._settings)
        total = torch.stack([self._settings.task_weights[name] * loss for name, loss in losses.items()]).sum()
        return total, figures


def _with_teachers(
    losses: dict[str, torch.Tensor], outputs: Outputs, batch: Batch, settings: TrainingSettings
) -> dict[str, torch.Tensor]:
    """The losses, part of each the divergence from what teachers say, where there are any."""
    if not batch.soft:
        return losses
    taught = {name: soft_loss(outputs[name].float(), batch.soft[name]) for name in losses}
    return {name: (1.0 - settings.teaching) * loss + settings.teaching * taught[name] for name, loss in losses.items()}


class DynamicWeights:
    """Joint dynamic loss weights: total weights that are searched, times shares that the network itself produces.

    The loss is the sum over tasks t of total_t * share_t * loss_t, plus the triplet loss of the embedding; the shares
    are the softmax of a fully connected layer on the last shared features, averaged over the batch (Yin and Liu 2018,
    "Multi-Task Convolutional Neural Network for Pose-Invariant Face Recognition").

    Two things keep the shares from all going to whichever task costs least, which is what minimising that sum alone
    soon does: each loss is counted in units of what guessing costs, and the shares' entropy is rewarded, so that at
    rest share_t is proportional to exp(-total_t * loss_t / share_entropy).
    A task that no face of the batch has a label for, nor a teacher, takes no part in the softmax: its loss is zero.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """See `Objective`; `outputs` has "shares", logits (n, tasks) in the order of the attributes among them."""
        losses = task_losses(outputs, batch.age_range, batch.labels, self._settings)
        figures = {name: float(loss.detach()) for name, loss in losses.items()}
        losses = _with_teachers(losses, outputs, batch, self._settings)
        learned = set(batch.soft) | batch.labelled_tasks()
        shares = task_shares(outputs["shares"].float(), [name in learned for name in losses])
        weighted = [
            self._settings.task_weights[name] * share * loss / math.log(outputs[name].shape[1])
            for share, (name, loss) in zip(shares, losses.items(), strict=True)
        ]
        entropy = -torch.special.xlogy(shares, shares).sum()
        triplet = triplet_loss(outputs["embedding"], batch.identity, self._settings.facenet.triplet_margin)
        total = (
            torch.stack(weighted).sum()
            - self._settings.facenet.share_entropy * entropy
            + self._settings.facenet.triplet_weight * triplet
        )
        figures["triplet"] = float(triplet.detach())
        return total, figures | {f"share_{name}": float(s) for name, s in zip(losses, shares.detach(), strict=True)}


def task_shares(logits: torch.Tensor, labelled: list[bool]) -> torch.Tensor:
    """Each task's share of the loss: positive for labelled tasks, zero for others, summing to 1.

    Args:
        logits: (n, tasks), of the fully connected layer.
        labelled: Per task, whether the batch has a label for it; where none has, all shares are zero.

    Returns:
        (tasks,), the mean over the batch.
    """
    mask = torch.tensor(labelled, device=logits.device)
    if not mask.any():
        return torch.zeros(len(labelled), device=logits.device)
    return torch.softmax(logits.masked_fill(~mask, -torch.inf), dim=1).mean(dim=0)
