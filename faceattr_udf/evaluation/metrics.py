"""Accuracy metrics: take probabilities and labels, return plain numbers, or None where a source has no such label."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score

from faceattr_udf.arrays import Float32Array, Float64Array, Int64Array
from faceattr_udf.attributes.decisions import decide_age
from faceattr_udf.datasets.labeled_faces import UNLABELED, LabeledFaces
from faceattr_udf.evaluation.intervals import mean_interval, share_interval
from faceattr_udf.labels import AGE_GROUPS, CLASSES, COARSE_LABELS, LABEL_CLASSES, LABELS, MAX_AGE

Probabilities = Mapping[str, Float32Array]
Mask = npt.NDArray[np.bool_]

_BINS = 15
_AGE_METRICS = ("age_mae", "age_in_range", "age_coverage", "age_ece")
_AGE_INTERVALS = ("age_mae_interval", "age_in_range_interval", "age_coverage_interval")
_CLASS_METRICS = ("accuracy", "accuracy_interval", "macro_f1", "ece", "recall", "mean_recall")
_COARSE_METRIC = "coarse_mean_recall"

_RIGHT: dict[str, Mask] = {
    name: np.array([[k in members for k in range(len(CLASSES[name]))] for members in (*LABEL_CLASSES[name], ())])
    for name in CLASSES
}
"""Attribute -> whether a class (column) is right for a label (row). For the last row, a label that is none of `LABELS`,
no class is."""

_FOLDED: dict[str, Int64Array] = {
    name: np.array(
        [
            next((LABELS[name].index(coarse) for coarse, members in COARSE_LABELS[name].items() if label in members), k)
            for k, label in enumerate(LABELS[name])
        ]
        + [UNLABELED],
        dtype=np.int64,
    )
    for name in CLASSES
}
"""Attribute -> index of each label, or of the coarse label that stands for it; the last entry is for -1."""


def is_right(attribute: str, predicted: Int64Array, labels: Int64Array) -> Mask:
    """Returns whether each predicted class (n,) is among the classes that the label (n,) stands for.

    >>> is_right("ethnicity", np.array([4, 5, 0]), np.array([6, 5, 6])).tolist()  # 6 is `others`
    [True, True, False]
    """
    # The label -1 (none of `LABELS`) takes the last row.
    return np.asarray(_RIGHT[attribute][labels, predicted])


def expected_age(probabilities: Float32Array) -> Float32Array:
    """Returns the mean of age distributions (n, 101), in years, (n,)."""
    return np.asarray(probabilities @ np.arange(MAX_AGE + 1, dtype=np.float32), dtype=np.float32)


def age_intervals(probabilities: Float32Array) -> Float64Array:
    """Returns `age_low` and `age_high` of the tables for age distributions (n, 101): years, (n, 2)."""
    decisions = [decide_age(row, large_enough=True) for row in probabilities]
    return np.array([(decision.low, decision.high) for decision in decisions]).reshape(-1, 2)


def age_covered(probabilities: Float32Array, ages: Float32Array) -> Mask:
    """Returns which ages (n,) are inside the intervals of distributions (n, 101)."""
    low, high = age_intervals(probabilities).T
    return np.asarray((ages >= low) & (ages <= high))


def age_coverage(probabilities: Float32Array, ages: Float32Array) -> float | None:
    """Returns the share of ages (n,) inside the intervals of distributions (n, 101); None if n is 0."""
    return mean(age_covered(probabilities, ages))


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
        and for each class attribute NAME_accuracy and NAME_ece, where a prediction is right if its class is among those
        that the label stands for; NAME_recall (by label), NAME_mean_recall and NAME_macro_f1 (of the classes, over
        faces whose label is no coarse label).
        Where the attribute has coarse labels, NAME_coarse_mean_recall is the mean recall after every class that a
        coarse label stands for, true or predicted, is replaced by that label: it compares faces with coarse labels to
        faces without.
        METRIC_interval is the 95 % interval of an accuracy, of age_mae, age_in_range and age_coverage: n (faces),
        value, low, high. Values are None where nothing is labeled or the model does not predict the attribute.
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


def _measure_age(probabilities: Float32Array | None, faces: LabeledFaces, select: Mask) -> dict[str, Any]:
    if probabilities is None:
        return dict.fromkeys((*_AGE_METRICS, *_AGE_INTERVALS))
    low, high = faces.age_range[:, 0], faces.age_range[:, 1]
    exact = select & faces.has_exact_age()
    ranged = select & faces.labeled("age")
    age = expected_age(probabilities)
    rounded = np.round(age)
    truth = low[exact]
    errors = np.abs(age - low)[exact]
    in_range = ((rounded >= low) & (rounded <= high))[ranged]
    covered = age_covered(probabilities[exact], truth)
    groups = age_group_probabilities(probabilities[exact])
    hits = groups.argmax(axis=1) == np.minimum(truth // 10, len(AGE_GROUPS) - 1)
    return {
        "age_mae": mean(errors),
        "age_in_range": mean(in_range),
        "age_coverage": mean(covered),
        "age_ece": calibration_error(groups.max(axis=1), hits) if exact.any() else None,
        "age_mae_interval": mean_interval(errors) if exact.any() else None,
        "age_in_range_interval": share_interval(in_range) if ranged.any() else None,
        "age_coverage_interval": share_interval(covered) if exact.any() else None,
    }


def _measure_class(
    attribute: str, probabilities: Float32Array | None, faces: LabeledFaces, select: Mask
) -> dict[str, Any]:
    coarse = [_COARSE_METRIC] if COARSE_LABELS[attribute] else []
    scores: dict[str, Any] = dict.fromkeys(f"{attribute}_{metric}" for metric in (*_CLASS_METRICS, *coarse))
    # A label that the model has no class for counts as an error.
    labeled = select & (faces.labeled(attribute) | faces.unknown[attribute])
    if probabilities is None or not labeled.any():
        return scores
    truth, confidence = faces.labels[attribute][labeled], probabilities[labeled].max(axis=1)
    predicted = probabilities[labeled].argmax(axis=1)
    hits = is_right(attribute, predicted, truth)
    scores[f"{attribute}_accuracy"] = mean(hits)
    scores[f"{attribute}_accuracy_interval"] = share_interval(hits)
    scores[f"{attribute}_ece"] = calibration_error(confidence, hits)
    present = np.unique(truth[truth != UNLABELED])
    recall = {LABELS[attribute][k]: mean(hits[truth == k]) for k in present}
    scores[f"{attribute}_recall"] = recall or None
    classes = present[present < len(CLASSES[attribute])]
    if len(classes):
        fine = truth < len(CLASSES[attribute])
        scores[f"{attribute}_mean_recall"] = _mean_recall(truth, predicted, classes)
        scores[f"{attribute}_macro_f1"] = _rounded(
            f1_score(truth[fine], predicted[fine], labels=classes, average="macro", zero_division=0.0)
        )
    if coarse and len(present):
        folded = _FOLDED[attribute]
        scores[f"{attribute}_{_COARSE_METRIC}"] = _mean_recall(
            folded[truth], folded[predicted], np.unique(folded[present])
        )
    return scores


def _mean_recall(truth: Int64Array, predicted: Int64Array, labels: Int64Array) -> float:
    return _rounded(np.mean([(predicted[truth == k] == k).mean() for k in labels]))


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
