"""Training objectives: the losses of the tasks, joined by fixed or by dynamic weights."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from faceattr_udf.datasets.labeled_faces import UNLABELED
from faceattr_udf.training.losses import soft_loss, task_losses, triplet_loss
from faceattr_udf.training.settings import TrainingSettings

Outputs = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The faces of one step with their labels, -1 where unlabeled.

    Attributes:
        views: float32 (n, 3, size, size) RGB, 0-255; or uint8, as augmentation returns them.
        age_range: float32 (n, 2), years.
        labels: Attribute -> int64 (n,), index into `labels.LABELS`.
        identity: int64 (n,).
        votes: Attribute -> float32 (n, classes), shares of people's votes, 0 where a face has none.
        soft_labels: Attribute -> float32 (n, classes), probabilities of the teachers; empty without teachers.
        mixup_share: Share of these faces in the views; the rest comes from the partners.
        partners: The faces that are mixed into the views, in the same order; None without mixup.
    """

    views: torch.Tensor
    age_range: torch.Tensor
    labels: Mapping[str, torch.Tensor]
    identity: torch.Tensor
    votes: Mapping[str, torch.Tensor] = field(default_factory=dict)
    soft_labels: Mapping[str, torch.Tensor] = field(default_factory=dict)
    mixup_share: float = 1.0
    partners: "Batch | None" = None

    def to(self, device: torch.device) -> "Batch":
        """Moves a batch that is not mixed to a device and converts its views to float32."""
        return replace(
            self,
            views=self.views.to(device, non_blocking=True).float(),
            age_range=self.age_range.to(device),
            labels={name: values.to(device) for name, values in self.labels.items()},
            identity=self.identity.to(device),
            votes={name: values.to(device) for name, values in self.votes.items()},
            soft_labels={name: values.to(device) for name, values in self.soft_labels.items()},
        )

    def mixup(self, share: float, partners: torch.Tensor) -> "Batch":
        """Mixes every view with that of another face of the batch.

        Args:
            share: Share of a face itself, between 0 and 1.
            partners: int64 (n,), index of the face that is mixed into each.
        """
        others = Batch(
            views=self.views[partners],
            age_range=self.age_range[partners],
            labels={name: values[partners] for name, values in self.labels.items()},
            identity=self.identity[partners],
            votes={name: values[partners] for name, values in self.votes.items()},
            soft_labels={name: values[partners] for name, values in self.soft_labels.items()},
        )
        views = torch.lerp(others.views, self.views, share)
        return replace(self, views=views, mixup_share=share, partners=others)

    def labeled_tasks(self) -> set[str]:
        """Returns the attributes that at least one face has a label for."""
        tasks = {name for name, values in self.labels.items() if bool((values != UNLABELED).any())}
        tasks |= {name for name, values in self.votes.items() if bool((values > 0).any())}
        return tasks | ({"age"} if bool((self.age_range[:, 0] != UNLABELED).any()) else set())


Objective = Callable[[Outputs, Batch], tuple[torch.Tensor, dict[str, float]]]
"""Outputs of the network and the batch -> the loss, a scalar, and metrics for the log."""


def mixup_loss(objective: Objective, outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Returns the loss of a batch; of a mixed one, the mean of both faces' losses, weighted by their shares."""
    loss, metrics = objective(outputs, batch)
    if batch.partners is None:
        return loss, metrics
    partners_loss, _ = objective(outputs, batch.partners)
    return batch.mixup_share * loss + (1.0 - batch.mixup_share) * partners_loss, metrics


class WeightedSum:
    """Sums the task losses with fixed weights."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """See `Objective`."""
        losses = task_losses(outputs, batch.age_range, batch.labels, self._settings.loss, batch.votes)
        metrics = {name: float(loss.detach()) for name, loss in losses.items()}
        losses = _with_distillation(losses, outputs, batch, self._settings.distillation.weight)
        weights = self._settings.loss.task_weights
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        return total, metrics


def _with_distillation(
    losses: dict[str, torch.Tensor], outputs: Outputs, batch: Batch, weight: float
) -> dict[str, torch.Tensor]:
    """Replaces the share `weight` of each loss by the cross-entropy to the soft labels, where the batch has them."""
    if not batch.soft_labels:
        return losses
    soft = {name: soft_loss(outputs[name].float(), batch.soft_labels[name]) for name in losses}
    return {name: (1.0 - weight) * loss + weight * soft[name] for name, loss in losses.items()}


class DynamicWeights:
    """Weights the task losses by shares that the network itself predicts, times total weights that are searched.

    The loss is the sum over tasks t of total_t * share_t * loss_t, plus the triplet loss of the embedding; the shares
    are the softmax of a fully connected layer on the last shared features, averaged over the batch (Yin and Liu 2018,
    "Multi-Task Convolutional Neural Network for Pose-Invariant Face Recognition").

    Minimizing that sum alone soon gives the whole share to the task with the smallest loss. Two terms prevent it: each
    loss is divided by the loss of a uniform guess, and the entropy of the shares is rewarded, so that in equilibrium
    share_t is proportional to exp(-total_t * loss_t / entropy_weight).
    A task without a label or soft label in the batch is left out of the softmax; its loss is zero.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """See `Objective`; `outputs` has "shares", logits (n, tasks) in the order of the attributes among them."""
        settings = self._settings.facenet
        losses = task_losses(outputs, batch.age_range, batch.labels, self._settings.loss, batch.votes)
        metrics = {name: float(loss.detach()) for name, loss in losses.items()}
        losses = _with_distillation(losses, outputs, batch, self._settings.distillation.weight)
        labeled = set(batch.soft_labels) | batch.labeled_tasks()
        shares = task_shares(outputs["shares"].float(), [name in labeled for name in losses])
        weighted = [
            self._settings.loss.task_weights[name] * share * loss / math.log(outputs[name].shape[1])
            for share, (name, loss) in zip(shares, losses.items(), strict=True)
        ]
        entropy = -torch.special.xlogy(shares, shares).sum()
        triplet = triplet_loss(outputs["embedding"], batch.identity, settings.triplet_margin)
        total = torch.stack(weighted).sum() - settings.entropy_weight * entropy + settings.triplet_weight * triplet
        metrics["triplet"] = float(triplet.detach())
        return total, metrics | {f"share_{name}": float(s) for name, s in zip(losses, shares.detach(), strict=True)}


def task_shares(logits: torch.Tensor, labeled: list[bool]) -> torch.Tensor:
    """Returns each task's share of the loss: positive for labeled tasks, zero for others, with a sum of 1.

    Args:
        logits: (n, tasks), from the fully connected layer.
        labeled: Per task, whether the batch has a label for it; where no task has one, all shares are zero.

    Returns:
        (tasks,), the mean over the batch.
    """
    mask = torch.tensor(labeled, device=logits.device)
    if not mask.any():
        return torch.zeros(len(labeled), device=logits.device)
    return torch.softmax(logits.masked_fill(~mask, -torch.inf), dim=1).mean(dim=0)
