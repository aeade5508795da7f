"""The support vector machines from arrays equal scikit-learn's, for two classes and for several."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.svm import SVC

from faceattr_udf.attributes.labels import AGE_GROUPS
from faceattr_udf.attributes.predictor import year_shares
from faceattr_udf.attributes.svm import RbfSvm
from faceattr_udf.training.svm import from_sklearn


def _fitted(classes: int, seed: int, gamma: float = 1.5) -> tuple[SVC, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 8))
    labels = np.arange(30 * classes) % classes
    points = centres[labels] + random.normal(scale=0.9, size=(len(labels), 8))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    model = SVC(C=3.0, gamma=gamma, class_weight="balanced", decision_function_shape="ovr").fit(points, labels)
    return model, points


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 8), seed=st.integers(0, 100), gamma=st.floats(0.1, 5.0))
def test_decisions_and_predictions_equal_scikit_learns(classes: int, seed: int, gamma: float) -> None:
    model, points = _fitted(classes, seed, gamma)
    ours = from_sklearn(model, classes).decide(points)
    theirs = model.decision_function(points)
    if classes == 2:
        np.testing.assert_allclose(ours[:, 1] - ours[:, 0], theirs, atol=1e-4)
    else:
        sure = np.abs(model.set_params(decision_function_shape="ovo").decision_function(points)).min(axis=1) > 1e-3
        np.testing.assert_allclose(ours[sure], theirs[sure], atol=1e-3)
    assert (ours.argmax(axis=1) == model.set_params(break_ties=False).predict(points)).mean() > 0.97


def test_pairs_equal_scikit_learns_one_against_one() -> None:
    model, points = _fitted(5, 3)
    model.set_params(decision_function_shape="ovo")
    np.testing.assert_allclose(from_sklearn(model, 5).decide_pairs(points), model.decision_function(points), atol=1e-4)


def test_arrays_come_back_from_a_file_as_they_went_in() -> None:
    model, points = _fitted(4, 0)
    machine = from_sklearn(model, 4)
    again = RbfSvm.from_arrays(load(save(machine.arrays("emotion"))), "emotion")
    assert (again.decide(points) == machine.decide(points)).all()


def test_no_faces_get_no_scores() -> None:
    machine = from_sklearn(_fitted(3, 0)[0], 3)
    assert machine.decide(np.zeros((0, 8), np.float32)).shape == (0, 3)


def test_a_missing_array_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"age\.vectors"):
        RbfSvm.from_arrays({}, "age")


def test_ages_spread_over_their_group_as_in_training() -> None:
    shares = year_shares(np.array([25.0] * 99 + [70.4]), 101)
    assert shares.shape == (len(AGE_GROUPS), 101)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
    assert shares[2].argmax() == 25
    assert shares[7].argmax() == 70
    assert shares[2, :20].max() == 0
    assert shares[0, :10] == pytest.approx(0.1)
