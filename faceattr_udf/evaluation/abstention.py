"""Accuracy against coverage: how often the model answers, and how often it is right when it does."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.evaluation.intervals import share_interval
from faceattr_udf.evaluation.metrics import Mask, Probabilities, is_right, mean
from faceattr_udf.labels import CLASSES

THRESHOLDS: Final = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Confidences at which the curves are computed."""


def abstention(
    probabilities: Probabilities, faces: LabeledFaces, min_confidence: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Measures what the model answers at several thresholds of the confidence, and at the configured ones.

    Args:
        probabilities: A predictor's output for all faces.
        faces: The labels.
        min_confidence: Attribute -> confidence from which on the model answers (`attributes.min_confidence`).

    Returns:
        Attribute -> "overall" and "by_source" (source -> ...) with: n (labeled faces), min_confidence, answered (share
        of them with an answer), accuracy (of the answers, with a 95 % interval; None without answers), and curve:
        threshold, coverage (share of faces with an answer), accuracy (of the answers). Attributes and sources without
        labels are left out.
    """
    scores: dict[str, dict[str, Any]] = {}
    for attribute in CLASSES:
        labeled = faces.labeled(attribute) | faces.unknown[attribute]
        if attribute not in probabilities or not labeled.any():
            continue
        confidence = probabilities[attribute][labeled].max(axis=1)
        hits = is_right(attribute, probabilities[attribute][labeled].argmax(axis=1), faces.labels[attribute][labeled])
        sources, threshold = faces.source[labeled], min_confidence[attribute]
        scores[attribute] = {
            "overall": _answers(confidence, hits, threshold),
            "by_source": {
                str(source): _answers(confidence[sources == source], hits[sources == source], threshold)
                for source in np.unique(sources)
            },
        }
    return scores


def _answers(confidence: npt.NDArray[np.floating], hits: Mask, threshold: float) -> dict[str, Any]:
    answered = confidence >= threshold
    return {
        "n": len(hits),
        "min_confidence": threshold,
        "answered": mean(answered),
        "accuracy": share_interval(hits[answered]) if answered.any() else None,
        "curve": [
            {"threshold": t, "coverage": mean(confidence >= t), "accuracy": mean(hits[confidence >= t])}
            for t in THRESHOLDS
        ],
    }
