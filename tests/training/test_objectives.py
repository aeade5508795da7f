"""Joint dynamic loss weights: shares are positive, sum to 1, follow the features, and skip what is not labelled."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.attributes.labels import BINS, CLASSES
from faceattr_udf.datasets.labelled_faces import UNLABELLED
from faceattr_udf.training.losses import soft_loss
from faceattr_udf.training.objectives import Batch, DynamicWeights, WeightedSum, loss_of_mixed, task_shares
from faceattr_udf.training.settings import TrainingSettings

TASKS = ("age", *CLASSES)


def _batch(count: int, unlabelled: tuple[str, ...] = (), identity: list[int] | None = None) -> Batch:
    age = -1.0 if "age" in unlabelled else 30.0
    return Batch(
        views=torch.zeros(count, 3, 8, 8),
        age_range=torch.full((count, 2), age),
        labels={n: torch.full((count,), UNLABELLED if n in unlabelled else 0) for n in CLASSES},
        identity=torch.tensor(identity or [UNLABELLED] * count),
    )


def _outputs(count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    outputs = {name: torch.randn(count, size, requires_grad=True) for name, size in BINS.items()}
    embedding = torch.nn.functional.normalize(torch.randn(count, 16), dim=1).requires_grad_()
    return {"embedding": embedding, **outputs, "shares": torch.randn(count, len(TASKS), requires_grad=True)}


@given(st.lists(st.lists(st.floats(-50, 50), min_size=4, max_size=4), min_size=1, max_size=6), st.integers(1, 15))
def test_shares_are_positive_and_sum_to_one(logits: list[list[float]], mask: int) -> None:
    labelled = [bool(mask & (1 << k)) for k in range(4)]
    shares = task_shares(torch.tensor(logits), labelled)
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-5)
    assert all((share >= 0) if there else (share == 0) for share, there in zip(shares, labelled, strict=True))


def test_shares_are_averaged_over_the_batch() -> None:
    shares = task_shares(torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]), [True, True])
    assert shares.tolist() == pytest.approx([(0.75 + 0.5) / 2, (0.25 + 0.5) / 2])


def test_nothing_labelled_shares_nothing() -> None:
    assert task_shares(torch.randn(3, 4), [False] * 4).tolist() == [0.0] * 4


def test_a_mixed_batch_has_the_views_and_the_labels_of_both() -> None:
    batch = replace(
        _batch(2), views=torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 8), identity=torch.tensor([4, 5])
    )
    mixed = batch.mixed(0.75, torch.tensor([1, 0]))
    assert mixed.views[:, 0, 0, 0].tolist() == [0.25, 0.75]
    assert mixed.identity.tolist() == [4, 5]
    assert mixed.share == 0.75
    assert mixed.other is not None
    assert mixed.other.identity.tolist() == [5, 4]
    assert batch.other is None


def test_the_loss_of_a_mixed_batch_is_as_much_of_both() -> None:
    outputs, objective = _outputs(2), WeightedSum(TrainingSettings())
    batch = replace(_batch(2), labels={n: torch.tensor([0, 1]) for n in CLASSES})
    mixed = batch.mixed(0.75, torch.tensor([1, 0]))
    assert mixed.other is not None
    own, _ = objective(outputs, batch)
    other, _ = objective(outputs, mixed.other)
    assert abs(float(own.detach() - other.detach())) > 0.1
    total, _ = loss_of_mixed(objective, outputs, mixed)
    torch.testing.assert_close(total, 0.75 * own + 0.25 * other)
    torch.testing.assert_close(loss_of_mixed(objective, outputs, batch)[0], own)


@pytest.mark.parametrize("missing", [("emotion",), ("age", "gender"), TASKS])
def test_a_task_without_labels_gets_no_gradient_and_no_share(missing: tuple[str, ...]) -> None:
    outputs = _outputs(6)
    total, figures = DynamicWeights(TrainingSettings())(outputs, _batch(6, missing))
    total.backward()
    for task in TASKS:
        gradient = outputs[task].grad
        assert (gradient is None or bool((gradient == 0).all())) == (task in missing)
        assert (figures[f"share_{task}"] == 0) == (task in missing)
    column = outputs["shares"].grad
    if column is not None:
        assert all(bool((column[:, TASKS.index(task)] == 0).all()) for task in missing)


def test_the_total_is_what_the_formula_says() -> None:
    settings = TrainingSettings.model_validate(
        {"task_weights": {"age": 1.0, "gender": 2.0, "ethnicity": 3.0, "emotion": 4.0}, "smoothing": 0.0}
    )
    outputs = _outputs(4)
    total, figures = DynamicWeights(settings)(outputs, _batch(4))
    shares = torch.softmax(outputs["shares"], dim=1).mean(dim=0).detach()
    expected = sum(
        settings.task_weights[task] * float(share) * figures[task] / math.log(outputs[task].shape[1])
        for task, share in zip(TASKS, shares, strict=True)
    )
    entropy = -float((shares * shares.log()).sum())
    assert float(total.detach()) == pytest.approx(expected - settings.facenet.share_entropy * entropy, rel=1e-4)


def _settle(settings: TrainingSettings) -> list[float]:
    """The shares after many steps on fixed losses."""
    outputs: dict[str, Any] = {name: value.detach() for name, value in _outputs(8).items()}
    logits = torch.zeros(8, len(TASKS), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        total, _ = DynamicWeights(settings)({**outputs, "shares": logits}, _batch(8))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return [float(share) for share in task_shares(logits.detach(), [True] * len(TASKS))]


def test_shares_change_with_training_and_one_task_does_not_take_all() -> None:
    settings = TrainingSettings.model_validate({"task_weights": dict.fromkeys(TASKS, 4.0)})
    shares = _settle(settings)
    assert max(shares) - min(shares) > 0.01
    assert min(shares) > 0.03
    greedy = _settle(
        settings.model_copy(update={"facenet": settings.facenet.model_copy(update={"share_entropy": 0.0})})
    )
    assert max(greedy) > 0.9


def test_fixed_weights_sum_the_losses() -> None:
    outputs = _outputs(3)
    settings = TrainingSettings.model_validate({"task_weights": dict.fromkeys(TASKS, 2.0)})
    total, figures = WeightedSum(settings)(outputs, _batch(3))
    assert float(total) == pytest.approx(2 * sum(figures.values()), rel=1e-5)


def test_teachers_are_part_of_every_loss_also_where_nothing_is_labelled() -> None:
    outputs = _outputs(3)
    soft = {name: torch.softmax(torch.randn(3, size), dim=1) for name, size in BINS.items()}
    batch = replace(_batch(3, ("emotion",)), soft=soft)
    settings = TrainingSettings.model_validate({"task_weights": dict.fromkeys(TASKS, 1.0), "teaching": 0.25})
    total, figures = WeightedSum(settings)(outputs, batch)
    taught = {name: float(soft_loss(outputs[name].detach(), soft[name])) for name in TASKS}
    assert figures["emotion"] == 0
    expected = sum(0.75 * figures[name] + 0.25 * taught[name] for name in TASKS)
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    total.backward()
    assert outputs["emotion"].grad is not None
    assert float(outputs["emotion"].grad.abs().sum()) > 0


def test_a_task_that_only_teachers_know_gets_its_share() -> None:
    outputs = _outputs(3)
    soft = {name: torch.softmax(torch.randn(3, size), dim=1) for name, size in BINS.items()}
    settings = TrainingSettings.model_validate({"task_weights": dict.fromkeys(TASKS, 1.0), "teaching": 0.5})
    total, figures = DynamicWeights(settings)(outputs, replace(_batch(3, ("emotion",)), soft=soft))
    assert figures["emotion"] == 0
    assert figures["share_emotion"] > 0
    total.backward()
    assert outputs["emotion"].grad is not None
    assert float(outputs["emotion"].grad.abs().sum()) > 0
