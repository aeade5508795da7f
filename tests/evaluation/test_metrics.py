"""Metrics of examples small enough to score by hand."""

import numpy as np
import pytest
from face_sets import NO_AGE, certain, labeled_faces
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.evaluation.metrics import (
    Probabilities,
    age_group_of,
    age_group_probabilities,
    age_intervals,
    calibration_error,
    expected_age,
    measure,
)
from faceattr_udf.labels import LABELS


def _all(probabilities: Probabilities, faces: LabeledFaces) -> dict[str, object]:
    return measure(probabilities, faces, np.ones(len(faces), dtype=bool))


def test_no_faces_have_no_metrics() -> None:
    scores = _all(certain([]), labeled_faces([], []))
    assert (scores.pop("n"), scores.pop("no_face")) == (0, 0)
    assert set(scores.values()) == {None}


def test_metrics_without_labels_are_none() -> None:
    scores = _all(certain([30]), labeled_faces(["a"], [NO_AGE], gender=[0]))
    assert scores["gender_accuracy"] == 1.0
    assert scores["age_mae"] is scores["age_coverage"] is scores["age_ece"] is None
    assert scores["emotion_accuracy"] is scores["emotion_macro_f1"] is None


def test_metrics_of_missing_outputs_are_none() -> None:
    predicted = {name: values for name, values in certain([30]).items() if name in {"age", "emotion"}}
    scores = _all(predicted, labeled_faces(["a"], [(30, 30)], gender=[0], emotion=[0]))
    assert scores["gender_accuracy"] is scores["gender_recall"] is None
    assert (scores["age_mae"], scores["emotion_accuracy"]) == (0.0, 1.0)


def test_age_error_uses_exact_ages_only() -> None:
    truth = labeled_faces(["a"] * 3, [(30, 30), (40, 49), (20, 29)])
    scores = _all(certain([33, 50, 25]), truth)
    assert scores["age_mae"] == 3.0
    assert scores["age_in_range"] == pytest.approx(1 / 3, abs=1e-5)


def test_age_coverage_counts_ages_inside_the_interval() -> None:
    flat = np.zeros((3, 101), np.float32)
    flat[:, 20:30] = 0.1  # 80 % lie between 20.5 and 28.5
    truth = labeled_faces(["a"] * 3, [(21, 21), (28, 28), (20, 20)])
    assert _all({"age": flat}, truth)["age_coverage"] == pytest.approx(2 / 3, abs=1e-5)
    assert age_intervals(flat)[0] == pytest.approx([20.5, 28.5], abs=1e-3)
    assert age_intervals(flat[:0]).shape == (0, 2)


def test_mean_recall_weights_classes_equally() -> None:
    scores = _all(certain([0] * 4, gender=[0] * 4), labeled_faces(["a"] * 4, [NO_AGE] * 4, gender=[0, 0, 0, 1]))
    assert (scores["gender_accuracy"], scores["gender_mean_recall"]) == (0.75, 0.5)
    assert scores["gender_recall"] == {"female": 1.0, "male": 0.0}
    assert scores["gender_macro_f1"] == pytest.approx((2 * 3 / 7 + 0.0) / 2, abs=1e-5)


OTHERS = LABELS["ethnicity"].index("others")


def test_coarse_label_is_right_for_each_of_its_classes() -> None:
    faces = labeled_faces(["a"] * 4, [NO_AGE] * 4, ethnicity=[OTHERS] * 4)
    scores = _all(certain([0] * 4, ethnicity=[4, 5, 0, 3]), faces)
    assert scores["ethnicity_accuracy"] == 0.5
    assert scores["ethnicity_recall"] == {"others": 0.5}
    assert scores["ethnicity_ece"] == 0.5
    assert scores["ethnicity_coarse_mean_recall"] == 0.5
    assert scores["ethnicity_mean_recall"] is scores["ethnicity_macro_f1"] is None


def test_mean_recall_and_f1_of_classes_leave_coarse_labels_out() -> None:
    faces = labeled_faces(["a"] * 3, [NO_AGE] * 3, ethnicity=[0, 1, OTHERS])
    scores = _all(certain([0] * 3, ethnicity=[0, 0, 0]), faces)
    assert scores["ethnicity_recall"] == {"white": 1.0, "black": 0.0, "others": 0.0}
    assert scores["ethnicity_mean_recall"] == 0.5
    # White has precision 1/2 and recall 1: the face labeled others is left out.
    assert scores["ethnicity_macro_f1"] == pytest.approx(2 / 3 / 2, abs=1e-5)
    assert scores["ethnicity_accuracy"] == pytest.approx(1 / 3, abs=1e-5)


def test_coarse_mean_recall_joins_classes_in_truth_and_prediction() -> None:
    # White; middle_eastern twice, once as latino_hispanic; latino_hispanic as white; others as middle_eastern.
    faces = labeled_faces(["a"] * 5, [NO_AGE] * 5, ethnicity=[0, 4, 4, 5, OTHERS])
    scores = _all(certain([0] * 5, ethnicity=[0, 4, 5, 0, 4]), faces)
    assert scores["ethnicity_mean_recall"] == pytest.approx((1.0 + 0.5 + 0.0) / 3, abs=1e-5)
    assert scores["ethnicity_coarse_mean_recall"] == pytest.approx((1.0 + 3 / 4) / 2, abs=1e-5)
    assert "gender_coarse_mean_recall" not in scores


def test_metrics_have_intervals() -> None:
    faces = labeled_faces(["a"] * 2, [(30, 30), (40, 49)], gender=[0, 1])
    scores = _all(certain([33, 50], gender=[0, 1]), faces)
    assert scores["gender_accuracy_interval"] == {"n": 2, "value": 1.0, "low": 0.34238, "high": 1.0}
    assert scores["age_mae_interval"] == {"n": 1, "value": 3.0, "low": 3.0, "high": 3.0}
    assert scores["age_in_range_interval"]["n"] == 2
    assert scores["age_coverage_interval"]["value"] == scores["age_coverage"] == 0.0
    assert scores["emotion_accuracy_interval"] is None


def test_label_without_a_class_counts_as_an_error() -> None:
    truth = labeled_faces(["a"] * 2, [NO_AGE] * 2, emotion=[0, -1])
    truth.unknown["emotion"][1] = True
    scores = _all(certain([0, 0], emotion=[0, 0]), truth)
    assert scores["emotion_accuracy"] == 0.5
    assert scores["emotion_recall"] == {"neutral": 1.0}
    assert scores["emotion_macro_f1"] == pytest.approx(2 / 3, abs=1e-5)


def test_calibration_error_of_two_bins() -> None:
    # Confidence 0.9 with accuracy 0.5, and confidence 0.6 with accuracy 1.
    confidence = np.array([0.9, 0.9, 0.6, 0.6])
    assert calibration_error(confidence, np.array([True, False, True, True])) == pytest.approx((0.8 + 0.8) / 4)
    assert calibration_error(np.array([]), np.array([], bool)) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_between_zero_and_one(faces: list[tuple[float, bool]]) -> None:
    confidence, hits = (np.array(values) for values in zip(*faces, strict=True))
    error = calibration_error(confidence, hits.astype(bool))
    assert error is not None
    assert abs(confidence.mean() - hits.mean()) - 1e-5 <= error <= 1.0


def test_expected_age_is_the_mean_of_the_distribution() -> None:
    distribution = np.zeros((1, 101), np.float32)
    distribution[0, [20, 40]] = 0.25, 0.75
    assert expected_age(distribution) == pytest.approx([35.0])
    assert age_group_probabilities(distribution)[0].tolist() == [0, 0, 0.25, 0, 0.75, 0, 0, 0]


def test_age_ranges_of_fairface_are_in_ten_year_groups() -> None:
    ranges = [(0, 2), (3, 9), (10, 19), (20, 29), (60, 69), (70, 100)]
    groups = ["0-9", "0-9", "10-19", "20-29", "60-69", "70+"]
    assert age_group_of(labeled_faces(["fairface"] * len(ranges), ranges)).tolist() == groups


def test_age_group_needs_a_range_within_one_group() -> None:
    faces = labeled_faces(["a"] * 5, [(30, 30), (30, 39), (20, 36), NO_AGE, (66, 99)])
    assert age_group_of(faces).tolist() == ["30-39", "30-39", "", "", ""]
    assert age_group_of(labeled_faces(["a"], [(70, 99)])).tolist() == ["70+"]
