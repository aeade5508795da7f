"""Figures of merit: probabilities and labels in, plain numbers out; nothing where a source has no such label."""

from typing import Any

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import CLASSES, MAX_AGE
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
        age_min <= round(age) <= age_max), and per class attribute NAME_accuracy and NAME_mean_recall; None where
        nothing is labelled.
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
    for attribute in CLASSES:
        truth = faces.labels[attribute]
        labelled = select & (truth != UNLABELLED)
        hits = probabilities[attribute].argmax(axis=1) == truth
        unknown = faces.unknown[attribute] & select
        # A label the model has no class for is a face it gets wrong.
        scores[f"{attribute}_accuracy"] = _mean(np.concatenate([hits[labelled], np.zeros(int(unknown.sum()), bool)]))
        recalls = [hits[labelled & (truth == index)].mean() for index in np.unique(truth[labelled])]
        scores[f"{attribute}_mean_recall"] = _mean(np.asarray(recalls))
    return scores


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
