import numpy as np
import pytest
from face_sets import NO_AGE, labeled_faces

from faceattr_udf.evaluation.metrics import age_coverage
from faceattr_udf.training.calibrate import (
    COVERAGE,
    fit_age_temperature,
    fit_class_temperature,
    fit_temperatures,
    source_weights,
)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _equal(count: int) -> np.ndarray:
    return np.full(count, 1.0 / count)


def test_unlabeled_faces_keep_temperature_one() -> None:
    faces = labeled_faces(["a"], [NO_AGE])
    logits = {"age": np.zeros((1, 101), np.float32), "gender": np.zeros((1, 2), np.float32)}
    assert fit_temperatures({**logits, "embedding": np.zeros((1, 8), np.float32)}, faces) == {"age": 1.0, "gender": 1.0}


def test_class_temperature_undoes_scaling_of_logits() -> None:
    random = np.random.default_rng(0)
    calibrated = random.normal(scale=2.0, size=(4000, 3)).astype(np.float32)
    labels = np.array([random.choice(3, p=row / row.sum()) for row in _softmax(calibrated).astype(float)])
    for factor in (0.5, 1.0, 2.0):
        scaled, members = calibrated * np.float32(factor), np.eye(3, dtype=bool)[labels]
        assert fit_class_temperature(scaled, members, _equal(4000)) == pytest.approx(factor, rel=0.1)


def test_small_source_counts_as_much_as_a_large_one() -> None:
    sources = np.array(["large"] * 98 + ["small"] * 2)
    weights = source_weights(sources)
    assert weights[sources == "large"].sum() == pytest.approx(0.5)
    assert weights[sources == "small"].sum() == pytest.approx(0.5)
    assert len(source_weights(np.array([], dtype=np.str_))) == 0


def test_overconfident_source_raises_the_temperature() -> None:
    faces = labeled_faces(["a"] * 98 + ["b"] * 2, [NO_AGE] * 100, gender=[0] * 99 + [1])
    logits = {"gender": np.tile(np.array([[4.0, 0.0]], np.float32), (100, 1))}
    alone = fit_temperatures({"gender": logits["gender"][:98]}, faces.take(np.arange(98)))
    assert fit_temperatures(logits, faces)["gender"] > 2 * alone["gender"]


@pytest.mark.parametrize("spread", [3.0, 12.0])
def test_age_interval_covers_the_share_that_calibration_aims_at(spread: float) -> None:
    random = np.random.default_rng(0)
    predicted = random.uniform(15, 80, 2000)
    ages = np.clip(np.round(predicted + random.normal(scale=6.0, size=2000)), 0, 100).astype(np.float32)
    logits = (-((np.arange(101)[None] - predicted[:, None]) ** 2) / (2 * spread**2)).astype(np.float32)
    temperature = fit_age_temperature(logits, ages, _equal(2000))
    assert age_coverage(_softmax(logits / temperature), ages) == pytest.approx(COVERAGE, abs=0.01)
    assert (temperature < 1) == (spread > 6)
