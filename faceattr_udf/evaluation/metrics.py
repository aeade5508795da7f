"""Figures of merit: probabilities and labels in, plain numbers out; nothing where a source has no such label."""

from typing import Any

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import AGE_GROUPS, CLASSES, MAX_AGE, age_group
from faceattr_udf.evaluation.faces import UNLABELLED, LabelledFaces

Probabilities = dict[str, npt.NDArray[np.float32]]


def expected_age(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mean of age distributions (n, 101), in years, (n,)."""
    return np.asarray(probabilities @ np.arange(MAX_AGE + 1, dtype=np.float32), dtype=np.float32)


def measure(probabilities: Probabilities, faces: LabelledFaces, select: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Scores some of the faces.

    Args:
        probabilities: As a predictor gives them, for all faces.
        faces: The labels.
        select: bool (n,), which faces to score.

    Returns:
        n, detected (share in which the cascade found a face), age_mae (exact ages), age_in_range (share with
        age_min <= round(age) <= age_max), by_age_group (of exact ages: n, age_mae, gender_accuracy), and per class
        attribute NAME_accuracy, NAME_recall (class -> share found) and NAME_mean_recall; None where nothing is
        labelled.
    """
    low, high = faces.age_range[:, 0], faces.age_range[:, 1]
    age = expected_age(probabilities["age"])
    exact = select & (low == high) & (low != UNLABELLED)
    ranged = select & (low != UNLABELLED)
    rounded = np.round(age)
    scores: dict[str, Any] = {
        "n": int(select.sum()),
        "detected": _mean(faces.detected[select]),
        "age_mae": _mean(np.abs(age - low)[exact]),
        "age_in_range": _mean(((rounded >= low) & (rounded <= high))[ranged]),
    }
    scores["by_age_group"] = _by_age_group(probabilities, faces, exact)
    for attribute, classes in CLASSES.items():
        truth = faces.labels[attribute]
        labelled = select & (truth != UNLABELLED)
        hits = probabilities[attribute].argmax(axis=1) == truth
        unknown = faces.unknown[attribute] & select
        # A label the model has no class for is a face it gets wrong.
        scores[f"{attribute}_accuracy"] = _mean(np.concatenate([hits[labelled], np.zeros(int(unknown.sum()), bool)]))
        recalls = {classes[index]: hits[labelled & (truth == index)].mean() for index in np.unique(truth[labelled])}
        scores[f"{attribute}_recall"] = {name: round(float(value), 5) for name, value in recalls.items()} or None
        scores[f"{attribute}_mean_recall"] = _mean(np.asarray(list(recalls.values())))
    return scores


def _by_age_group(
    probabilities: Probabilities, faces: LabelledFaces, exact: npt.NDArray[np.bool_]
) -> dict[str, dict[str, Any]] | None:
    """How the figures depend on the true age, of the faces whose age is known exactly."""
    truth, gender = faces.age_range[:, 0], faces.labels["gender"]
    errors = np.abs(expected_age(probabilities["age"]) - truth)
    hits = probabilities["gender"].argmax(axis=1) == gender
    groups = np.array([age_group(float(age)) for age in truth], dtype=np.str_)
    rows = {}
    for group in AGE_GROUPS:
        members = exact & (groups == group)
        if members.any():
            gendered = members & (gender != UNLABELLED)
            rows[group] = {
                "n": int(members.sum()),
                "age_mae": _mean(errors[members]),
                "gender_accuracy": _mean(hits[gendered]),
            }
    return rows or None


def report(probabilities: Probabilities, faces: LabelledFaces) -> dict[str, Any]:
    """Scores all faces and each source: {"overall": ..., "by_source": {source: ...}, "unknown_labels": ...}."""
    return {
        "overall": measure(probabilities, faces, np.ones(len(faces), dtype=bool)),
        "by_source": {
            str(source): measure(probabilities, faces, faces.source == source) for source in np.unique(faces.source)
        },
        "unknown_labels": {attribute: values for attribute, values in faces.unknown_labels.items() if values},
    }


def _mean(values: npt.NDArray[Any]) -> float | None:
    return round(float(np.mean(values)), 5) if len(values) else None
