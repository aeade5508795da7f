"""Probabilities -> predictions: the label, the age with its bounds, and when the model abstains."""

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import MAX_AGE, age_group
from faceattr_udf.results import AgePrediction, ClassPrediction

_TAIL = 0.1
# Bin k holds the people whom one would call k years old: ages between k - 0.5 and k + 0.5, inside the scale.
_YEARS = np.arange(MAX_AGE + 1, dtype=np.float64)
_EDGES = np.clip(np.arange(MAX_AGE + 2) - 0.5, 0.0, float(MAX_AGE))


def decide_class(
    probabilities: npt.NDArray[np.floating], classes: tuple[str, ...], *, min_confidence: float, visible: bool
) -> ClassPrediction:
    """Names the most probable class, or abstains.

    Args:
        probabilities: (len(classes),).
        classes: Labels in the order of the probabilities.
        min_confidence: The label is None below it.
        visible: False for a face too small to judge: the label is None.

    >>> decide_class(np.array([0.25, 0.75]), ("female", "male"), min_confidence=0.8, visible=True)
    ClassPrediction(label=None, confidence=0.75, probs={'female': 0.25, 'male': 0.75})
    """
    probs = dict(zip(classes, np.asarray(probabilities, dtype=np.float64).tolist(), strict=True))
    best = max(probs, key=probs.__getitem__)
    confident = visible and probs[best] >= min_confidence
    return ClassPrediction(best if confident else None, probs[best], probs)


def decide_age(probabilities: npt.NDArray[np.floating], *, visible: bool) -> AgePrediction:
    """Takes the expected age and the central 80 % of the distribution.

    Args:
        probabilities: (MAX_AGE + 1,), over whole years from 0.
        visible: False for a face too small to judge: age and group are None, the bounds are kept.

    Returns:
        With low <= age <= high: the 10 % and 90 % quantiles, linear within a year, and the expectation where a lopsided
        distribution has it beyond one of them.

    >>> decide_age(np.eye(101)[30], visible=True)
    AgePrediction(age=30.0, low=29.6, high=30.4, group='30-39')
    """
    weights = np.asarray(probabilities, dtype=np.float64)
    weights = weights / weights.sum()
    age = min(max(float(weights @ _YEARS), 0.0), float(MAX_AGE))
    reached = np.concatenate([[0.0], np.cumsum(weights)])
    low, high = np.interp([_TAIL, 1.0 - _TAIL], reached, _EDGES).tolist()
    low, high = min(low, age), max(high, age)
    return AgePrediction(age, low, high, age_group(age)) if visible else AgePrediction(None, low, high, None)
