import numpy as np
import pytest
from face_sets import NO_AGE, labeled_faces

from faceattr_udf.evaluation.metrics import age_coverage
from faceattr_udf.training.calibrate import fit_age_temperature, fit_class_temperature, fit_temperatures


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def test_unlabeled_faces_keep_temperature_one() -> None:
    faces = labeled_faces(["a"], [NO_AGE])
    logits = {"age": np.zeros((1, 101), np.float32), "gender": np.zeros((1, 2), np.float32)}
    assert fit_temperatures({**logits, "embedding": np.zeros((1, 8), np.float32)}, faces) == {"age": 1.0, "gender": 1.0}


def test_class_temperature_undoes_scaling_of_logits() -> None:
    random = np.random.default_rng(0)
    calibrated = random.normal(scale=2.0, size=(4000, 3)).astype(np.float32)
    labels = np.array([random.choice(3, p=row / row.sum()) for row in _softmax(calibrated).astype(float)])
    for factor in (0.5, 1.0, 2.0):
        assert fit_class_temperature(calibrated * np.float32(factor), labels) == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("spread", [3.0, 12.0])
def test_age_interval_covers_eighty_percent(spread: float) -> None:
    random = np.random.default_rng(0)
    predicted = random.uniform(15, 80, 2000)
    ages = np.clip(np.round(predicted + random.normal(scale=6.0, size=2000)), 0, 100).astype(np.float32)
    logits = (-((np.arange(101)[None] - predicted[:, None]) ** 2) / (2 * spread**2)).astype(np.float32)
    temperature = fit_age_temperature(logits, np.stack([ages, ages], axis=1))
    assert age_coverage(_softmax(logits / temperature), ages) == pytest.approx(0.8, abs=0.01)
    assert (temperature < 1) == (spread > 6)
