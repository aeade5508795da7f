"""Figures of merit: probabilities and labels in, plain numbers out; nothing where a source has no such label."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score

from faceattr_udf.attributes.decisions import decide_age
from faceattr_udf.attributes.labels import AGE_GROUPS, CLASSES, MAX_AGE
from faceattr_udf.datasets.labelled_faces import UNLABELLED, LabelledFaces

Probabilities = Mapping[str, npt.NDArray[np.float32]]
Mask = npt.NDArray[np.bool_]

_BINS = 15


def expected_age(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mean of age distributions (n, 101), in years, (n,)."""
    return np.asarray(probabilities @ np.arange(MAX_AGE + 1, dtype=np.float32), dtype=np.float32)


def age_intervals(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """`age_low` and `age_high` as the tables have them, of distributions (n, 101): years, (n, 2)."""
    decisions = [decide_age(row, visible=True) for row in probabilities]
    return np.array([(decision.low, decision.high) for decision in decisions]).reshape(-1, 2)


def age_coverage(probabilities: npt.NDArray[np.float32], ages: npt.NDArray[np.float32]) -> float | None:
    """The share of ages (n,) that lie inside the intervals of distributions (n, 101); None of nothing."""
    low, high = age_intervals(probabilities).T
    return mean((ages >= low) & (ages <= high))


def age_group_probabilities(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Distributions over years (n, 101) -> over ten-year groups (n, 8)."""
    groups = np.minimum(np.arange(MAX_AGE + 1) // 10, len(AGE_GROUPS) - 1)
    membership = (groups[:, None] == np.arange(len(AGE_GROUPS))[None]).astype(np.float32)
    return np.asarray(probabilities @ membership, dtype=np.float32)


def calibration_error(confidence: npt.NDArray[np.floating], hits: Mask) -> float | None:
    """Expected calibration error: the gap between confidence and accuracy in fifteen bins, weighted by their faces.

    Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".

    Args:
        confidence: Probability of the most probable class, (n,).
        hits: Whether it was right, (n,).

    Returns:
        Between 0 and 1; None without faces.
    """
    if len(confidence) == 0:
        return None
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float(confidence[bins == k].sum() - hits[bins == k].sum())) for k in range(_BINS)]
    return round(sum(gaps) / len(confidence), 5)


def measure(probabilities: Probabilities, faces: LabelledFaces, select: Mask) -> dict[str, Any]:
    """Scores some of the faces.

    Args:
        probabilities: As a predictor gives them, for all faces; attributes that the model lacks are not there.
        faces: The labels.
        select: bool (n,), which faces to score.

    Returns:
        n; detected (share in which the cascade found a face) and no_face (how many it found none in);
        age_mae (years, of exact ages), age_in_range (share with age_min <= round(age) <= age_max), age_coverage (share
        of exact ages inside age_low to age_high), age_ece (of the ten-year groups);
        and per class attribute NAME_accuracy, NAME_macro_f1, NAME_ece, NAME_recall (class -> share found) and
        NAME_mean_recall. None where nothing is labelled or the model has no such attribute.
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


def _measure_age(
    probabilities: npt.NDArray[np.float32] | None, faces: LabelledFaces, select: Mask
) -> dict[str, float | None]:
    if probabilities is None:
        return dict.fromkeys(("age_mae", "age_in_range", "age_coverage", "age_ece"))
    low, high = faces.age_range[:, 0], faces.age_range[:, 1]
    exact = select & faces.exactly_aged()
    ranged = select & faces.labelled("age")
    age = expected_age(probabilities)
    rounded = np.round(age)
    truth = low[exact]
    groups = age_group_probabilities(probabilities[exact])
    right = groups.argmax(axis=1) == np.minimum(truth // 10, len(AGE_GROUPS) - 1)
    return {
        "age_mae": mean(np.abs(age - low)[exact]),
        "age_in_range": mean(((rounded >= low) & (rounded <= high))[ranged]),
        "age_coverage": age_coverage(probabilities[exact], truth),
        "age_ece": calibration_error(groups.max(axis=1), right) if exact.any() else None,
    }


def _measure_class(
    attribute: str, probabilities: npt.NDArray[np.float32] | None, faces: LabelledFaces, select: Mask
) -> dict[str, Any]:
    names = [f"{attribute}_{figure}" for figure in ("accuracy", "macro_f1", "ece", "recall", "mean_recall")]
    truth = faces.labels[attribute]
    # A label the model has no class for is a face it gets wrong.
    labelled = select & (faces.labelled(attribute) | faces.unknown[attribute])
    if probabilities is None or not labelled.any():
        return dict.fromkeys(names)
    truth, confidence = truth[labelled], probabilities[labelled].max(axis=1)
    predicted = probabilities[labelled].argmax(axis=1)
    hits = predicted == truth
    known = np.unique(truth[truth != UNLABELLED])
    recall = {CLASSES[attribute][k]: mean(hits[truth == k]) for k in known}
    figures = (
        mean(hits),
        round(float(f1_score(truth, predicted, labels=known, average="macro", zero_division=0.0)), 5)
        if len(known)
        else None,
        calibration_error(confidence, hits),
        recall or None,
        mean(np.array([hits[truth == k].mean() for k in known])),
    )
    return dict(zip(names, figures, strict=True))


def age_group_index(faces: LabelledFaces) -> npt.NDArray[np.int64]:
    """The place in `AGE_GROUPS` of every face whose age is known that well, else -1."""
    low, high = np.minimum(faces.age_range // 10, len(AGE_GROUPS) - 1).astype(np.int64).T
    return np.where(faces.labelled("age") & (low == high), low, UNLABELLED)


def age_group_of(faces: LabelledFaces) -> npt.NDArray[np.str_]:
    """The ten-year group of every face whose age is known that well, else an empty string."""
    # A place of -1 takes the last entry.
    return np.array([*AGE_GROUPS, ""], dtype=np.str_)[age_group_index(faces)]


def mean(values: npt.NDArray[Any]) -> float | None:
    """The mean, to five decimals; None of nothing."""
    return round(float(np.mean(values)), 5) if len(values) else None
