"""Converts probabilities into predictions: labels, ages with an 80 % interval, and abstentions."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from faceattr_udf.labels import AGE_GROUPS, MAX_AGE, age_group
from faceattr_udf.results import AgePrediction, ClassPrediction, Face

_TAIL = 0.1
# Class k of the age distribution holds the ages from k - 0.5 to k + 0.5, clipped to 0 to MAX_AGE.
_YEARS = np.arange(MAX_AGE + 1, dtype=np.float64)
_FIRST_YEARS = np.arange(len(AGE_GROUPS)) * 10  # of each ten-year group; the last one has all later years
_EDGES = np.clip(np.arange(MAX_AGE + 2) - 0.5, 0.0, float(MAX_AGE))


def decide_class(
    probabilities: npt.NDArray[np.floating], classes: tuple[str, ...], *, min_confidence: float, large_enough: bool
) -> ClassPrediction:
    """Selects the most probable class, or abstains.

    Args:
        probabilities: (len(classes),).
        classes: Labels in the order of the probabilities.
        min_confidence: Below this probability the label is None.
        large_enough: False if the face is too small for a prediction; then the label is None.

    >>> decide_class(np.array([0.25, 0.75]), ("female", "male"), min_confidence=0.8, large_enough=True)
    ClassPrediction(label=None, confidence=0.75, probs={'female': 0.25, 'male': 0.75})
    """
    probs = dict(zip(classes, np.asarray(probabilities, dtype=np.float64).tolist(), strict=True))
    best = max(probs, key=probs.__getitem__)
    confident = large_enough and probs[best] >= min_confidence
    return ClassPrediction(best if confident else None, probs[best], probs)


def decide_age(probabilities: npt.NDArray[np.floating], *, large_enough: bool) -> AgePrediction:
    """Computes the expected age and the central 80 % interval of the distribution.

    Args:
        probabilities: (MAX_AGE + 1,), over whole years from 0.
        large_enough: False if the face is too small for a prediction; then age and group are None, but the bounds are
            set.

    Returns:
        The bounds are the 10 % and 90 % quantiles, interpolated linearly within a year. Where the expected age of a
        skewed distribution lies outside of them, it replaces the nearer bound: low <= age <= high.

    >>> decision = decide_age(np.eye(101)[30], large_enough=True)
    >>> decision.age, decision.low, decision.high, decision.group, decision.group_probs["30-39"]
    (30.0, 29.6, 30.4, '30-39', 1.0)
    """
    weights = np.asarray(probabilities, dtype=np.float64)
    weights = weights / weights.sum()
    age = min(max(float(weights @ _YEARS), 0.0), float(MAX_AGE))
    reached = np.concatenate([[0.0], np.cumsum(weights)])
    low, high = np.interp([_TAIL, 1.0 - _TAIL], reached, _EDGES).tolist()
    low, high = min(low, age), max(high, age)
    groups = dict(zip(AGE_GROUPS, np.add.reduceat(weights, _FIRST_YEARS).tolist(), strict=True))
    if not large_enough:
        return AgePrediction(None, low, high, None, groups)
    return AgePrediction(age, low, high, age_group(age), groups)


def probability_below(probabilities: npt.NDArray[np.floating], age: int) -> float:
    """Returns the probability that a person is younger than an age.

    Args:
        probabilities: (MAX_AGE + 1,), over whole years from 0.
        age: Years.

    >>> probability_below(np.eye(101)[17], 18), probability_below(np.eye(101)[18], 18)
    (1.0, 0.0)
    """
    weights = np.asarray(probabilities, dtype=np.float64)
    return float(weights[:age].sum() / weights.sum())


def protect_minor(face: Face, keep: Collection[str]) -> Face:
    """Removes from a face everything that describes the person, except for what is kept; `minor` becomes true.

    Args:
        face: With all its predictions.
        keep: Names out of age (with its bounds), age_group, gender, ethnicity and emotion.

    Returns:
        The face without landmarks, crop, embedding, and the predictions that are not kept. Its box, the detector's
        confidence and the quality stay.
    """
    age = replace(face.age, group_probs=None) if face.age is not None and "age" in keep else None
    if age is not None and "age_group" not in keep:
        age = replace(age, group=None)
    elif age is None and face.age is not None and "age_group" in keep:
        # Named one by one, so that whatever an age prediction gains later is not kept.
        age = AgePrediction(age=None, low=None, high=None, group=face.age.group, group_probs=None)
    return replace(
        face,
        landmarks=None,
        age=age,
        gender=face.gender if "gender" in keep else None,
        ethnicity=face.ethnicity if "ethnicity" in keep else None,
        emotion=face.emotion if "emotion" in keep else None,
        crop=None,
        embedding=None,
        minor=True,
    )
