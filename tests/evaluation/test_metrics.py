"""Figures of merit on faces small enough to score by hand."""

import numpy as np
import pytest

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.evaluation.faces import UNLABELLED, LabelledFaces
from faceattr_udf.evaluation.metrics import expected_age, report


def _one_hot(indices: list[int], size: int) -> np.ndarray:
    return np.eye(size, dtype=np.float32)[indices]


def faces(sources: list[str], ages: list[tuple[float, float]], **labels: list[int]) -> LabelledFaces:
    count = len(sources)
    unlabelled = np.full(count, UNLABELLED, dtype=np.int64)
    return LabelledFaces(
        crops=np.zeros((count, 8, 8, 3), np.uint8),
        detected=np.ones(count, bool),
        source=np.array(sources, dtype=np.str_),
        age_range=np.array(ages, dtype=np.float32).reshape(-1, 2),
        labels={name: np.array(labels.get(name, unlabelled), dtype=np.int64) for name in CLASSES},
        unknown={name: np.zeros(count, bool) for name in CLASSES},
        unknown_labels={name: {} for name in CLASSES},
    )


def probabilities(ages: list[int], **classes: list[int]) -> dict[str, np.ndarray]:
    given = {name: _one_hot(classes.get(name, [0] * len(ages)), len(labels)) for name, labels in CLASSES.items()}
    return {"age": _one_hot(ages, 101), **given}


def test_no_faces_have_no_figures() -> None:
    scores = report(probabilities([]), faces([], []))
    assert scores["by_source"] == {}
    assert scores["overall"]["n"] == 0
    assert {value for name, value in scores["overall"].items() if name != "n"} == {None}


def test_what_a_source_does_not_label_is_null() -> None:
    scores = report(probabilities([30]), faces(["a"], [(UNLABELLED, UNLABELLED)], gender=[0]))
    assert scores["by_source"]["a"]["gender_accuracy"] == 1.0
    assert scores["by_source"]["a"]["age_mae"] is None
    assert scores["by_source"]["a"]["emotion_accuracy"] is None


def test_each_source_is_scored_by_itself() -> None:
    truth = faces(["a", "a", "b"], [(30, 30), (40, 49), (20, 20)], gender=[0, 1, 1], ethnicity=[4, 4, 4])
    scores = report(probabilities([33, 50, 20], gender=[0, 0, 1], ethnicity=[4, 0, 4]), truth)
    a, b = scores["by_source"]["a"], scores["by_source"]["b"]
    assert (a["n"], a["age_mae"], a["age_in_range"], a["gender_accuracy"]) == (2, 3.0, 0.0, 0.5)
    assert (b["n"], b["age_mae"], b["age_in_range"], b["gender_accuracy"]) == (1, 0.0, 1.0, 1.0)
    assert scores["overall"]["age_mae"] == 1.5  # exact ages alone
    assert scores["overall"]["ethnicity_accuracy"] == pytest.approx(2 / 3, abs=1e-5)


def test_recall_counts_every_class_alike() -> None:
    truth = faces(["a"] * 4, [(UNLABELLED, UNLABELLED)] * 4, gender=[0, 0, 0, 1])
    scores = report(probabilities([0] * 4, gender=[0] * 4), truth)["overall"]
    assert (scores["gender_accuracy"], scores["gender_mean_recall"]) == (0.75, 0.5)


def test_the_figures_say_for_whom_the_model_fails() -> None:
    truth = faces(["a"] * 4, [(3, 3), (5, 5), (70, 70), (20, 29)], gender=[0, 1, 1, 0])
    scores = report(probabilities([3, 7, 60, 25], gender=[0, 0, 1, 0]), truth)["overall"]
    assert scores["by_age_group"] == {
        "0-9": {"n": 2, "age_mae": 1.0, "gender_accuracy": 0.5},
        "70+": {"n": 1, "age_mae": 10.0, "gender_accuracy": 1.0},
    }
    assert scores["gender_recall"] == {"female": 1.0, "male": 0.5}
    assert scores["emotion_recall"] is None


def test_a_label_the_model_does_not_know_is_an_error_and_is_listed() -> None:
    truth = faces(["a"] * 2, [(UNLABELLED, UNLABELLED)] * 2, emotion=[0, UNLABELLED])
    truth.unknown["emotion"][1] = True
    truth.unknown_labels["emotion"]["contempt"] = 1
    scores = report(probabilities([0, 0], emotion=[0, 0]), truth)
    assert scores["overall"]["emotion_accuracy"] == 0.5
    assert scores["unknown_labels"] == {"emotion": {"contempt": 1}}


def test_the_expected_age_is_the_mean_of_the_distribution() -> None:
    distribution = np.zeros((1, 101), np.float32)
    distribution[0, [20, 40]] = 0.25, 0.75
    assert expected_age(distribution) == pytest.approx([35.0])
