"""A face counts only for the attributes that its source labels."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.attributes.labels import CLASSES, MAX_AGE
from faceattr_udf.datasets.labelled_faces import UNLABELLED
from faceattr_udf.training.losses import age_loss, class_loss, soft_loss, task_losses, triplet_loss
from faceattr_udf.training.settings import TrainingSettings

YEARS = MAX_AGE + 1


def _certain(*ages: int) -> torch.Tensor:
    logits = torch.full((len(ages), YEARS), -20.0)
    logits[range(len(ages)), list(ages)] = 20.0
    return logits


def test_nothing_labelled_costs_nothing_and_moves_nothing() -> None:
    logits = torch.randn(3, YEARS, requires_grad=True)
    loss = age_loss(logits, torch.full((3, 2), float(UNLABELLED)), sigma=2.0, regression=0.1)
    assert loss == 0
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()
    assert class_loss(torch.randn(3, 7), torch.full((3,), UNLABELLED), smoothing=0.1) == 0


def test_a_batch_without_one_attribute_gives_its_head_no_gradient() -> None:
    outputs = {"age": torch.randn(4, YEARS, requires_grad=True)}
    outputs |= {name: torch.randn(4, len(labels), requires_grad=True) for name, labels in CLASSES.items()}
    labels = {name: torch.zeros(4, dtype=torch.int64) for name in CLASSES}
    labels["emotion"] = torch.full((4,), UNLABELLED)
    losses = task_losses(outputs, torch.tensor([[30.0, 30.0]] * 4), labels, TrainingSettings())
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: value.grad for name, value in outputs.items()}
    assert (gradients["emotion"] == 0).all()  # type: ignore[union-attr]
    assert all((gradients[name] != 0).any() for name in ("age", "gender", "ethnicity"))  # type: ignore[union-attr]


def test_unlabelled_faces_do_not_dilute_the_loss() -> None:
    logits, labels = torch.randn(2, 5), torch.tensor([3, UNLABELLED])
    assert class_loss(logits, labels, 0.0) == pytest.approx(float(class_loss(logits[:1], labels[:1], 0.0)))


def test_a_range_costs_the_probability_outside_it() -> None:
    uniform = torch.zeros(1, YEARS)
    loss = age_loss(uniform, torch.tensor([[20.0, 29.0]]), sigma=2.0, regression=0.1)
    assert float(loss) == pytest.approx(-math.log(10 / YEARS), rel=1e-4)
    assert float(age_loss(_certain(25), torch.tensor([[20.0, 29.0]]), 2.0, 0.1)) == pytest.approx(0, abs=1e-4)


@given(age=st.integers(5, 95), error=st.integers(1, 40))
def test_an_exact_age_costs_more_the_further_off(age: int, error: int) -> None:
    truth = torch.tensor([[float(age)] * 2])
    near = abs(error) - 1
    guesses = [min(age + near, MAX_AGE), min(age + error, MAX_AGE)]
    losses = [float(age_loss(_certain(guess), truth, sigma=2.0, regression=0.1)) for guess in guesses]
    assert losses[0] <= losses[1]


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_an_exact_age_wants_a_normal_distribution_around_it(sigma: float) -> None:
    wanted = torch.distributions.Normal(40.0, sigma).log_prob(torch.arange(YEARS, dtype=torch.float32))[None]
    truth = torch.tensor([[40.0, 40.0]])
    least = float(age_loss(wanted, truth, sigma=sigma, regression=0.0))
    # A cross-entropy is least, and the entropy of the distribution, where the prediction is the target.
    assert least == pytest.approx(0.5 * math.log(2 * math.pi * math.e * sigma**2), abs=1e-3)
    for other in (0.5 * wanted, 2.0 * wanted, wanted.roll(1)):
        assert float(age_loss(other, truth, sigma=sigma, regression=0.0)) > least + 1e-3


def test_the_error_of_the_expected_age_is_added() -> None:
    logits = torch.log(torch.zeros(1, YEARS).index_fill(1, torch.tensor([20, 50]), 0.5) + 1e-12)
    without, with_it = (
        float(age_loss(logits, torch.tensor([[30.0, 30.0]]), sigma=2.0, regression=weight)) for weight in (0.0, 0.2)
    )
    assert with_it - without == pytest.approx(0.2 * 5.0, rel=1e-3)


def test_ages_beyond_the_scale_are_its_end() -> None:
    loss = age_loss(_certain(MAX_AGE), torch.tensor([[116.0, 116.0]]), sigma=2.0, regression=1.0)
    assert math.isfinite(float(loss))


def test_student_equal_to_its_teacher_has_no_distillation_loss() -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    soft_loss(logits, torch.softmax(logits.detach(), dim=1)).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-6


def test_triplets_pull_a_person_together_and_push_others_away() -> None:
    points = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.9, 0.1]]), dim=1).requires_grad_()
    loss = triplet_loss(points, torch.tensor([0, 0, 1]), margin=0.2)
    assert float(loss) > 0
    loss.backward()
    assert points.grad is not None
    moved = torch.nn.functional.normalize(points.detach() - 0.1 * points.grad, dim=1)
    assert float(triplet_loss(moved, torch.tensor([0, 0, 1]), margin=0.2)) < float(loss)


def test_the_hardest_triplet_of_each_anchor_counts() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # Own faces are at squared distance 2; the other person is at 4 from the first and 2 from the second.
    assert float(triplet_loss(points, torch.tensor([0, 0, 1]), margin=0.5)) == pytest.approx((0.0 + 0.5) / 2)


@pytest.mark.parametrize("identity", [[-1, -1, -1], [0, 1, 2], [0, 0, 0], [0, -1, -1]])
def test_a_batch_without_a_triplet_costs_nothing(identity: list[int]) -> None:
    points = torch.nn.functional.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    loss = triplet_loss(points, torch.tensor(identity), margin=0.2)
    assert float(loss) == 0
    loss.backward()
    assert points.grad is not None
    assert bool((points.grad == 0).all())
