import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from faceattr_udf.datasets.labeled_faces import UNLABELED
from faceattr_udf.labels import CLASSES, LABELS, MAX_AGE, OTHERS
from faceattr_udf.training.losses import age_loss, class_loss, soft_loss, task_losses, triplet_loss
from faceattr_udf.training.settings import LossSettings

YEARS = MAX_AGE + 1


def _certain(*ages: int) -> torch.Tensor:
    logits = torch.full((len(ages), YEARS), -20.0)
    logits[range(len(ages)), list(ages)] = 20.0
    return logits


def test_unlabeled_faces_have_no_loss_and_no_gradient() -> None:
    logits = torch.randn(3, YEARS, requires_grad=True)
    loss = age_loss(logits, torch.full((3, 2), float(UNLABELED)), sigma=2.0, regression=0.1)
    assert loss == 0
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()
    assert class_loss(torch.randn(3, 7), torch.full((3,), UNLABELED), "emotion", 0.1) == 0


def test_head_of_unlabeled_attribute_gets_no_gradient() -> None:
    outputs = {"age": torch.randn(4, YEARS, requires_grad=True)}
    outputs |= {name: torch.randn(4, len(labels), requires_grad=True) for name, labels in CLASSES.items()}
    labels = {name: torch.zeros(4, dtype=torch.int64) for name in CLASSES}
    labels["emotion"] = torch.full((4,), UNLABELED)
    losses = task_losses(outputs, torch.tensor([[30.0, 30.0]] * 4), labels, LossSettings())
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: value.grad for name, value in outputs.items()}
    assert (gradients["emotion"] == 0).all()  # type: ignore[union-attr]
    assert all((gradients[name] != 0).any() for name in ("age", "gender", "ethnicity"))  # type: ignore[union-attr]


def test_unlabeled_faces_do_not_dilute_the_loss() -> None:
    logits, labels = torch.randn(2, 6), torch.tensor([3, UNLABELED])
    alone = class_loss(logits[:1], labels[:1], "ethnicity", 0.0)
    assert class_loss(logits, labels, "ethnicity", 0.0) == pytest.approx(float(alone))


@given(smoothing=st.floats(0.0, 0.5))
def test_loss_of_classes_equals_cross_entropy(smoothing: float) -> None:
    logits, labels = torch.randn(5, 6), torch.arange(5)
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    assert float(class_loss(logits, labels, "ethnicity", smoothing)) == pytest.approx(float(expected), rel=1e-4)


def test_loss_of_others_is_that_of_both_classes_together() -> None:
    logits = torch.randn(1, 6, requires_grad=True)
    loss = class_loss(logits, torch.tensor([LABELS["ethnicity"].index(OTHERS)]), "ethnicity", 0.0)
    probabilities = torch.softmax(logits.detach(), dim=1)[0]
    assert float(loss.detach()) == pytest.approx(-math.log(float(probabilities[4] + probabilities[5])), rel=1e-4)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert ((logits.grad < 0)[0] == torch.tensor([False] * 4 + [True] * 2)).all()


def test_votes_are_mixed_with_the_label() -> None:
    logits, votes = torch.randn(3, 7), torch.zeros(3, 7)
    votes[1:, 2] = 1.0
    labels = torch.tensor([0, 0, UNLABELED])
    logs = torch.log_softmax(logits, dim=1)
    expected = [logs[0, 0], 0.25 * logs[1, 0] + 0.75 * logs[1, 2], logs[2, 2]]
    loss = class_loss(logits, labels, "emotion", 0.0, votes=votes, votes_weight=0.75)
    assert float(loss) == pytest.approx(-float(torch.stack(expected).mean()), rel=1e-4)


def test_range_loss_is_log_likelihood_of_the_range() -> None:
    uniform = torch.zeros(1, YEARS)
    loss = age_loss(uniform, torch.tensor([[20.0, 29.0]]), sigma=2.0, regression=0.1)
    assert float(loss) == pytest.approx(-math.log(10 / YEARS), rel=1e-4)
    assert float(age_loss(_certain(25), torch.tensor([[20.0, 29.0]]), 2.0, 0.1)) == pytest.approx(0, abs=1e-4)


@given(age=st.integers(5, 95), error=st.integers(1, 40))
def test_age_loss_grows_with_the_error(age: int, error: int) -> None:
    truth = torch.tensor([[float(age)] * 2])
    near = abs(error) - 1
    guesses = [min(age + near, MAX_AGE), min(age + error, MAX_AGE)]
    losses = [float(age_loss(_certain(guess), truth, sigma=2.0, regression=0.1)) for guess in guesses]
    assert losses[0] <= losses[1]


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_age_loss_is_minimal_for_the_normal_distribution(sigma: float) -> None:
    normal = torch.distributions.Normal(40.0, sigma).log_prob(torch.arange(YEARS, dtype=torch.float32))[None]
    truth = torch.tensor([[40.0, 40.0]])
    minimum = float(age_loss(normal, truth, sigma=sigma, regression=0.0))
    # The cross-entropy is minimal where the prediction equals the target, and then equals its entropy.
    assert minimum == pytest.approx(0.5 * math.log(2 * math.pi * math.e * sigma**2), abs=1e-3)
    for other in (0.5 * normal, 2.0 * normal, normal.roll(1)):
        assert float(age_loss(other, truth, sigma=sigma, regression=0.0)) > minimum + 1e-3


def test_age_loss_adds_the_error_of_the_expected_age() -> None:
    logits = torch.log(torch.zeros(1, YEARS).index_fill(1, torch.tensor([20, 50]), 0.5) + 1e-12)
    without_error, with_error = (
        float(age_loss(logits, torch.tensor([[30.0, 30.0]]), sigma=2.0, regression=weight)) for weight in (0.0, 0.2)
    )
    assert with_error - without_error == pytest.approx(0.2 * 5.0, rel=1e-3)


def test_ages_beyond_the_scale_are_clipped() -> None:
    loss = age_loss(_certain(MAX_AGE), torch.tensor([[116.0, 116.0]]), sigma=2.0, regression=1.0)
    assert math.isfinite(float(loss))


def test_student_equal_to_its_teacher_has_no_distillation_loss() -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    soft_loss(logits, torch.softmax(logits.detach(), dim=1)).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-6


def test_triplet_loss_falls_along_its_gradient() -> None:
    points = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.9, 0.1]]), dim=1).requires_grad_()
    loss = triplet_loss(points, torch.tensor([0, 0, 1]), margin=0.2)
    assert float(loss) > 0
    loss.backward()
    assert points.grad is not None
    moved = torch.nn.functional.normalize(points.detach() - 0.1 * points.grad, dim=1)
    assert float(triplet_loss(moved, torch.tensor([0, 0, 1]), margin=0.2)) < float(loss)


def test_triplet_loss_takes_the_hardest_triplet() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # Squared distances: 2 between the faces of one person; 4 and 2 from these to the other person.
    assert float(triplet_loss(points, torch.tensor([0, 0, 1]), margin=0.5)) == pytest.approx((0.0 + 0.5) / 2)


@pytest.mark.parametrize("identity", [[-1, -1, -1], [0, 1, 2], [0, 0, 0], [0, -1, -1]])
def test_batch_without_a_triplet_has_no_loss(identity: list[int]) -> None:
    points = torch.nn.functional.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    loss = triplet_loss(points, torch.tensor(identity), margin=0.2)
    assert float(loss) == 0
    loss.backward()
    assert points.grad is not None
    assert bool((points.grad == 0).all())
