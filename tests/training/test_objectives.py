import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.datasets.labeled_faces import UNLABELED
from faceattr_udf.labels import CLASSES, NUM_CLASSES
from faceattr_udf.training.losses import soft_loss
from faceattr_udf.training.objectives import Batch, DynamicWeights, WeightedSum, mixup_loss, task_shares
from faceattr_udf.training.settings import TrainingSettings

TASKS = ("age", *CLASSES)


def _batch(count: int, unlabeled: tuple[str, ...] = (), identity: list[int] | None = None) -> Batch:
    age = -1.0 if "age" in unlabeled else 30.0
    return Batch(
        views=torch.zeros(count, 3, 8, 8),
        age_range=torch.full((count, 2), age),
        labels={n: torch.full((count,), UNLABELED if n in unlabeled else 0) for n in CLASSES},
        identity=torch.tensor(identity or [UNLABELED] * count),
    )


def _outputs(count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    outputs = {name: torch.randn(count, size, requires_grad=True) for name, size in NUM_CLASSES.items()}
    embedding = torch.nn.functional.normalize(torch.randn(count, 16), dim=1).requires_grad_()
    return {"embedding": embedding, **outputs, "shares": torch.randn(count, len(TASKS), requires_grad=True)}


@given(st.lists(st.lists(st.floats(-50, 50), min_size=4, max_size=4), min_size=1, max_size=6), st.integers(1, 15))
def test_shares_are_positive_and_sum_to_one(logits: list[list[float]], mask: int) -> None:
    labeled = [bool(mask & (1 << k)) for k in range(4)]
    shares = task_shares(torch.tensor(logits), labeled)
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-5)
    assert all((share >= 0) if there else (share == 0) for share, there in zip(shares, labeled, strict=True))


def test_shares_are_averaged_over_the_batch() -> None:
    shares = task_shares(torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]), [True, True])
    assert shares.tolist() == pytest.approx([(0.75 + 0.5) / 2, (0.25 + 0.5) / 2])


def test_shares_are_zero_without_labels() -> None:
    assert task_shares(torch.randn(3, 4), [False] * 4).tolist() == [0.0] * 4


def test_mixup_keeps_the_labels_of_both_faces() -> None:
    batch = replace(
        _batch(2), views=torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 8), identity=torch.tensor([4, 5])
    )
    mixed = batch.mixup(0.75, torch.tensor([1, 0]))
    assert mixed.views[:, 0, 0, 0].tolist() == [0.25, 0.75]
    assert mixed.identity.tolist() == [4, 5]
    assert mixed.mixup_share == 0.75
    assert mixed.partners is not None
    assert mixed.partners.identity.tolist() == [5, 4]
    assert batch.partners is None


def test_mixup_loss_weights_the_losses_of_both_faces() -> None:
    outputs, objective = _outputs(2), WeightedSum(TrainingSettings())
    batch = replace(_batch(2), labels={n: torch.tensor([0, 1]) for n in CLASSES})
    mixed = batch.mixup(0.75, torch.tensor([1, 0]))
    assert mixed.partners is not None
    own, _ = objective(outputs, batch)
    other, _ = objective(outputs, mixed.partners)
    assert abs(float(own.detach() - other.detach())) > 0.1
    total, _ = mixup_loss(objective, outputs, mixed)
    torch.testing.assert_close(total, 0.75 * own + 0.25 * other)
    torch.testing.assert_close(mixup_loss(objective, outputs, batch)[0], own)


@pytest.mark.parametrize("missing", [("emotion",), ("age", "gender"), TASKS])
def test_unlabeled_task_gets_no_gradient_and_no_share(missing: tuple[str, ...]) -> None:
    outputs = _outputs(6)
    total, metrics = DynamicWeights(TrainingSettings())(outputs, _batch(6, missing))
    total.backward()
    for task in TASKS:
        gradient = outputs[task].grad
        assert (gradient is None or bool((gradient == 0).all())) == (task in missing)
        assert (metrics[f"share_{task}"] == 0) == (task in missing)
    column = outputs["shares"].grad
    if column is not None:
        assert all(bool((column[:, TASKS.index(task)] == 0).all()) for task in missing)


def test_dynamic_weights_follow_the_formula() -> None:
    settings = TrainingSettings.model_validate(
        {
            "loss": {
                "task_weights": {"age": 1.0, "gender": 2.0, "ethnicity": 3.0, "emotion": 4.0},
                "label_smoothing": 0.0,
            }
        }
    )
    outputs = _outputs(4)
    total, metrics = DynamicWeights(settings)(outputs, _batch(4))
    shares = torch.softmax(outputs["shares"], dim=1).mean(dim=0).detach()
    expected = sum(
        settings.loss.task_weights[task] * float(share) * metrics[task] / math.log(outputs[task].shape[1])
        for task, share in zip(TASKS, shares, strict=True)
    )
    entropy = -float((shares * shares.log()).sum())
    assert float(total.detach()) == pytest.approx(expected - settings.facenet.entropy_weight * entropy, rel=1e-4)


def _equilibrium_shares(settings: TrainingSettings) -> list[float]:
    """Returns the shares after many steps on fixed losses."""
    outputs: dict[str, Any] = {name: value.detach() for name, value in _outputs(8).items()}
    logits = torch.zeros(8, len(TASKS), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        total, _ = DynamicWeights(settings)({**outputs, "shares": logits}, _batch(8))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return [float(share) for share in task_shares(logits.detach(), [True] * len(TASKS))]


def test_entropy_keeps_one_task_from_taking_all() -> None:
    settings = TrainingSettings.model_validate({"loss": {"task_weights": dict.fromkeys(TASKS, 4.0)}})
    shares = _equilibrium_shares(settings)
    assert max(shares) - min(shares) > 0.01
    assert min(shares) > 0.03
    greedy = _equilibrium_shares(
        settings.model_copy(update={"facenet": settings.facenet.model_copy(update={"entropy_weight": 0.0})})
    )
    assert max(greedy) > 0.9


def test_weighted_sum_adds_the_losses() -> None:
    outputs = _outputs(3)
    settings = TrainingSettings.model_validate({"loss": {"task_weights": dict.fromkeys(TASKS, 2.0)}})
    total, metrics = WeightedSum(settings)(outputs, _batch(3))
    assert float(total) == pytest.approx(2 * sum(metrics.values()), rel=1e-5)


def test_soft_labels_add_to_the_loss_of_unlabeled_tasks() -> None:
    outputs = _outputs(3)
    soft_labels = {name: torch.softmax(torch.randn(3, size), dim=1) for name, size in NUM_CLASSES.items()}
    batch = replace(_batch(3, ("emotion",)), soft_labels=soft_labels)
    settings = TrainingSettings.model_validate(
        {"loss": {"task_weights": dict.fromkeys(TASKS, 1.0)}, "distillation": {"weight": 0.25}}
    )
    total, metrics = WeightedSum(settings)(outputs, batch)
    distillation = {name: float(soft_loss(outputs[name].detach(), soft_labels[name])) for name in TASKS}
    assert metrics["emotion"] == 0
    expected = sum(0.75 * metrics[name] + 0.25 * distillation[name] for name in TASKS)
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    total.backward()
    assert outputs["emotion"].grad is not None
    assert float(outputs["emotion"].grad.abs().sum()) > 0


def test_task_with_only_soft_labels_gets_a_share() -> None:
    outputs = _outputs(3)
    soft_labels = {name: torch.softmax(torch.randn(3, size), dim=1) for name, size in NUM_CLASSES.items()}
    settings = TrainingSettings.model_validate(
        {"loss": {"task_weights": dict.fromkeys(TASKS, 1.0)}, "distillation": {"weight": 0.5}}
    )
    total, metrics = DynamicWeights(settings)(outputs, replace(_batch(3, ("emotion",)), soft_labels=soft_labels))
    assert metrics["emotion"] == 0
    assert metrics["share_emotion"] > 0
    total.backward()
    assert outputs["emotion"].grad is not None
    assert float(outputs["emotion"].grad.abs().sum()) > 0
