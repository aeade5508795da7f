"""Masked multi-task losses: a face counts only for the attributes that it has a label for."""

from collections.abc import Mapping

import torch
from torch import nn

from faceattr_udf.datasets.labeled_faces import UNLABELED, label_matrix
from faceattr_udf.labels import CLASSES, MAX_AGE
from faceattr_udf.training.settings import LossSettings


def age_loss(logits: torch.Tensor, age_range: torch.Tensor, sigma: float, regression: float) -> torch.Tensor:
    """Returns the label-distribution loss of exact ages, and the negative log-likelihood of age ranges.

    Exact ages: cross-entropy to a normal distribution around the age plus the error of the expected age (Gao et al.
    2018, "Age Estimation Using Expectation of Label Distribution Learning").

    Args:
        logits: (n, 101) over whole years.
        age_range: (n, 2), lowest and highest age; -1 unlabeled.
        sigma: Standard deviation of the label distribution, years.
        regression: Weight of the absolute error of the expected age.

    Returns:
        Scalar, 0 where no face is labeled.
    """
    low, high = age_range[:, :1], age_range[:, 1:]
    log_probability = torch.log_softmax(logits, dim=1)
    years = torch.arange(MAX_AGE + 1, dtype=logits.dtype, device=logits.device)[None]
    target = torch.softmax(-((years - low) ** 2) / (2 * sigma**2), dim=1)
    exact_loss = -(target * log_probability).sum(dim=1)
    expected = (log_probability.exp() * years).sum(dim=1)
    exact_loss = exact_loss + regression * (expected - low[:, 0].clamp(max=MAX_AGE)).abs()
    inside = (years >= low) & (years <= high)
    range_loss = -torch.logsumexp(log_probability.masked_fill(~inside, -30.0), dim=1)
    exact = (low == high)[:, 0]
    labeled = low[:, 0] != UNLABELED
    return _masked_mean(torch.where(exact, exact_loss, range_loss), labeled)


def class_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    attribute: str,
    smoothing: float,
    *,
    votes: torch.Tensor | None = None,
    votes_weight: float = 0.0,
) -> torch.Tensor:
    """Returns the mean cross-entropy of the labeled faces with label smoothing; 0 where no face is labeled.

    A coarse label's probability is the sum of those of its classes.

    Args:
        logits: (n, classes).
        labels: int64 (n,), index into `labels.LABELS`; -1 unlabeled.
        attribute: Name of the attribute.
        smoothing: Share of the target that is spread evenly over all classes.
        votes: (n, classes), the shares of people's votes; a row of zeros where a face has none. None: no votes.
        votes_weight: Share of the votes in the target of a face that has a label and votes.
    """
    log_probability = torch.log_softmax(logits, dim=1)
    members = torch.from_numpy(label_matrix(attribute)).to(logits.device)
    labeled = labels != UNLABELED
    outside = ~members[labels.clamp(min=0)]
    losses = -torch.logsumexp(log_probability.masked_fill(outside, -torch.inf), dim=1)
    if votes is not None:
        voted = votes.sum(dim=1) > 0
        by_votes = -(votes * log_probability).sum(dim=1)
        losses = torch.where(voted, torch.where(labeled, torch.lerp(losses, by_votes, votes_weight), by_votes), losses)
        labeled = labeled | voted
    losses = (1.0 - smoothing) * losses - smoothing * log_probability.mean(dim=1)
    return _masked_mean(losses, labeled)


def task_losses(
    outputs: Mapping[str, torch.Tensor],
    age_range: torch.Tensor,
    labels: Mapping[str, torch.Tensor],
    settings: LossSettings,
    votes: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Returns the loss of every attribute that the network predicts; 0, without gradient, where no face is labeled.

    Args:
        outputs: Attribute -> logits (n, classes).
        age_range: (n, 2), years; -1 unlabeled.
        labels: Attribute -> int64 (n,); -1 unlabeled.
        settings: Label smoothing, weight of the votes and the shape of the age loss.
        votes: Attribute -> shares of people's votes, (n, classes); see `class_loss`.

    Returns:
        Attribute -> scalar.
    """
    votes = votes or {}
    losses = {}
    if "age" in outputs:
        losses["age"] = age_loss(outputs["age"].float(), age_range, settings.age_sigma, settings.age_regression)
    for name in CLASSES:
        if name in outputs:
            logits, smoothing = outputs[name].float(), settings.label_smoothing
            given = votes.get(name)
            losses[name] = class_loss(
                logits, labels[name], name, smoothing, votes=given, votes_weight=settings.votes_weight
            )
    return losses


def soft_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross-entropy of logits (n, classes) to soft labels (n, classes), over all faces."""
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


def triplet_loss(embedding: torch.Tensor, identity: torch.Tensor, margin: float) -> torch.Tensor:
    """Returns the batch-hard triplet loss over the faces of known people.

    Every face with another face of the same person in the batch is an anchor. The loss asks that its farthest positive
    be nearer, by the margin, than its nearest negative (Hermans, Beyer, Leibe 2017, "In Defense of the Triplet Loss for
    Person Re-Identification", equation 5).

    Args:
        embedding: (n, d), L2-normalized.
        identity: int64 (n,); -1 where the person is unknown.
        margin: In squared Euclidean distance, which lies between 0 and 4.

    Returns:
        Scalar, 0 where the batch has no triplet.
    """
    known = identity != UNLABELED
    points, people = embedding[known], identity[known]
    distance = (2.0 - 2.0 * points @ points.T).clamp(min=0.0)
    same = people[:, None] == people[None]
    positives = same & ~torch.eye(len(people), dtype=torch.bool, device=people.device)
    anchors = positives.any(dim=1) & (~same).any(dim=1)
    if not anchors.any():
        return embedding.sum() * 0.0
    farthest = distance.masked_fill(~positives, -torch.inf)[anchors].amax(dim=1)
    nearest = distance.masked_fill(same, torch.inf)[anchors].amin(dim=1)
    return nn.functional.relu(farthest - nearest + margin).mean()


def _masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
