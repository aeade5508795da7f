"""Compares `RbfSvm` with scikit-learn, for two classes and for several."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.svm import SVC

from faceattr_udf.attributes.predictor import years_within_groups
from faceattr_udf.attributes.svm import RbfSvm
from faceattr_udf.labels import AGE_GROUPS
from faceattr_udf.training.svm import from_sklearn


def _fitted(classes: int, seed: int, gamma: float = 1.5) -> tuple[SVC, np.ndarray]:
    random = np.random.default_rng(seed)
    centers = random.normal(size=(classes, 8))
    labels = np.arange(30 * classes) % classes
    points = centers[labels] + random.normal(scale=0.9, size=(len(labels), 8))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    model = SVC(C=3.0, gamma=gamma, class_weight="balanced", decision_function_shape="ovr").fit(points, labels)
    return model, points


@settings(max_examples=25)
@given(classes=st.integers(2, 8), seed=st.integers(0, 100), gamma=st.floats(0.1, 5.0))
def test_decisions_equal_scikit_learn(classes: int, seed: int, gamma: float) -> None:
    model, points = _fitted(classes, seed, gamma)
    actual = from_sklearn(model, classes).decision_function(points)
    expected = model.decision_function(points)
    if classes == 2:
        np.testing.assert_allclose(actual[:, 1] - actual[:, 0], expected, atol=1e-4)
    else:
        confident = np.abs(model.set_params(decision_function_shape="ovo").decision_function(points)).min(axis=1) > 1e-3
        np.testing.assert_allclose(actual[confident], expected[confident], atol=1e-3)
    assert (actual.argmax(axis=1) == model.set_params(break_ties=False).predict(points)).mean() > 0.97


def test_pairwise_decisions_equal_scikit_learn() -> None:
    model, points = _fitted(5, 3)
    model.set_params(decision_function_shape="ovo")
    np.testing.assert_allclose(
        from_sklearn(model, 5).pairwise_decisions(points), model.decision_function(points), atol=1e-4
    )


def test_arrays_survive_safetensors() -> None:
    model, points = _fitted(4, 0)
    svm = from_sklearn(model, 4)
    restored = RbfSvm.from_arrays(load(save(svm.to_arrays("emotion"))), "emotion")
    assert (restored.decision_function(points) == svm.decision_function(points)).all()


def test_no_points_give_no_scores() -> None:
    svm = from_sklearn(_fitted(3, 0)[0], 3)
    assert svm.decision_function(np.zeros((0, 8), np.float32)).shape == (0, 3)


def test_missing_array_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"age\.vectors"):
        RbfSvm.from_arrays({}, "age")


def test_ages_within_groups_follow_the_training_data() -> None:
    table = years_within_groups(np.array([25.0] * 99 + [70.4]), 101)
    assert table.shape == (len(AGE_GROUPS), 101)
    np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=1e-5)
    assert table[2].argmax() == 25
    assert table[7].argmax() == 70
    assert table[2, :20].max() == 0
    assert table[0, :10] == pytest.approx(0.1)
