"""Accuracy metrics: take probabilities and labels, return plain numbers, or None where a source has no such label."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, recall_score

from faceattr_udf.arrays import Float32Array, Float64Array
from faceattr_udf.attributes.decisions import decide_age
from faceattr_udf.datasets.labeled_faces import UNLABELED, LabeledFaces
from faceattr_udf.labels import AGE_GROUPS, CLASSES, MAX_AGE

Probabilities = Mapping[str, Float32Array]
Mask = npt.NDArray[np.bool_]

_BINS = 15


def expected_age(probabilities: Float32Array) -> Float32Array:
    """Returns the mean of age distributions (n, 101), in years, (n,)."""
    return np.asarray(probabilities @ np.arange(MAX_AGE + 1, dtype=np.float32), dtype=np.float32)


def age_intervals(probabilities: Float32Array) -> Float64Array:
    """Returns `age_low` and `age_high` of the tables for age distributions (n, 101): years, (n, 2)."""
    decisions = [decide_age(row, large_enough=True) for row in probabilities]
    return np.array([(decision.low, decision.high) for decision in decisions]).reshape(-1, 2)


def age_coverage(probabilities: Float32Array, ages: Float32Array) -> float | None:
    """Returns the share of ages (n,) inside the intervals of distributions (n, 101); None if n is 0."""
    low, high = age_intervals(probabilities).T
    return mean((ages >= low) & (ages <= high))


def age_group_probabilities(probabilities: Float32Array) -> Float32Array:
    """Sums distributions over years (n, 101) to distributions over ten-year groups (n, 8)."""
    groups = np.minimum(np.arange(MAX_AGE + 1) // 10, len(AGE_GROUPS) - 1)
    membership = (groups[:, None] == np.arange(len(AGE_GROUPS))[None]).astype(np.float32)
    return np.asarray(probabilities @ membership, dtype=np.float32)


def calibration_error(confidence: npt.NDArray[np.floating], hits: Mask) -> float | None:
    """Returns the expected calibration error: the mean gap between confidence and accuracy over 15 weighted bins.

    Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".

    Args:
        confidence: Probability of the most probable class, (n,).
        hits: Whether that class was right, (n,).

    Returns:
        Between 0 and 1; None without faces.
    """
    if len(confidence) == 0:
        return None
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float(confidence[bins == k].sum() - hits[bins == k].sum())) for k in range(_BINS)]
    return round(sum(gaps) / len(confidence), 5)


def measure(probabilities: Probabilities, faces: LabeledFaces, select: Mask) -> dict[str, Any]:
    """Scores a selection of the faces.

    Args:
        probabilities: A predictor's output for all faces; attributes that the model does not predict are missing.
        faces: The labels.
        select: Which faces to score, bool (n,).

    Returns:
        n; detected (share of images in which the cascade found a face) and no_face (number of the others);
        age_mae (years, over exact ages), age_in_range (share with age_min <= round(age) <= age_max), age_coverage
        (share of exact ages between age_low and age_high), age_ece (over ten-year groups);
        and for each class attribute NAME_accuracy, NAME_macro_f1, NAME_ece, NAME_recall (by class) and
        NAME_mean_recall. Values are None where nothing is labeled or the model does not predict the attribute.
    """
    scores: dict[str, Any] = {
        "n": int(select.sum()),
        "detected": mean(faces.detected[select]),
        "no_face": int((~faces.detected[select]).sum()),
        **_measure_age(probabilities.get("age"), faces, select),
    }
    for attribute in CLASSES:
        scores |= _measure_class(attribute, probabilities.get(attribute), faces, select)
    return scores


def _measure_age(probabilities: Float32Array | None, faces: LabeledFaces, select: Mask) -> dict[str, float | None]:
    if probabilities is None:
        return dict.fromkeys(("age_mae", "age_in_range", "age_coverage", "age_ece"))
    low, high = faces.age_range[:, 0], faces.age_range[:, 1]
    exact = select & faces.has_exact_age()
    ranged = select & faces.labeled("age")
    age = expected_age(probabilities)
    rounded = np.round(age)
    truth = low[exact]
    groups = age_group_probabilities(probabilities[exact])
    hits = groups.argmax(axis=1) == np.minimum(truth // 10, len(AGE_GROUPS) - 1)
    return {
        "age_mae": mean(np.abs(age - low)[exact]),
        "age_in_range": mean(((rounded >= low) & (rounded <= high))[ranged]),
        "age_coverage": age_coverage(probabilities[exact], truth),
        "age_ece": calibration_error(groups.max(axis=1), hits) if exact.any() else None,
    }


def _measure_class(
    attribute: str, probabilities: Float32Array | None, faces: LabeledFaces, select: Mask
) -> dict[str, Any]:
    names = [f"{attribute}_{metric}" for metric in ("accuracy", "macro_f1", "ece", "recall", "mean_recall")]
    # A label that the model has no class for counts as an error.
    labeled = select & (faces.labeled(attribute) | faces.unknown[attribute])
    if probabilities is None or not labeled.any():
        return dict.fromkeys(names)
    truth, confidence = faces.labels[attribute][labeled], probabilities[labeled].max(axis=1)
    predicted = probabilities[labeled].argmax(axis=1)
    hits = predicted == truth
    metrics: list[Any] = [mean(hits), None, calibration_error(confidence, hits), None, None]
    present = np.unique(truth[truth != UNLABELED])
    if len(present):
        recall = recall_score(truth, predicted, labels=present, average=None)
        metrics[1] = _rounded(f1_score(truth, predicted, labels=present, average="macro", zero_division=0.0))
        metrics[3] = {CLASSES[attribute][k]: _rounded(value) for k, value in zip(present, recall, strict=True)}
        metrics[4] = mean(recall)
    return dict(zip(names, metrics, strict=True))


def age_group_index(faces: LabeledFaces) -> npt.NDArray[np.int64]:
    """Returns each face's index in `AGE_GROUPS`, or -1 where the labeled range spans several groups or is missing."""
    low, high = np.minimum(faces.age_range // 10, len(AGE_GROUPS) - 1).astype(np.int64).T
    return np.where(faces.labeled("age") & (low == high), low, UNLABELED)


def age_group_of(faces: LabeledFaces) -> npt.NDArray[np.str_]:
    """Returns each face's ten-year group, or "" where `age_group_index` is -1."""
    # Index -1 takes the last entry.
    return np.array([*AGE_GROUPS, ""], dtype=np.str_)[age_group_index(faces)]


def mean(values: npt.NDArray[Any]) -> float | None:
    """Returns the mean to five decimals, or None of an empty array."""
    return _rounded(np.mean(values)) if len(values) else None


def _rounded(value: float) -> float:
    return round(float(value), 5)
