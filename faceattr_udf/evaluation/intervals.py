"""Metrics with 95 % confidence intervals."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Interval = dict[str, float]
"""n (number of faces), value, and the ends of its interval: low, high."""


def share_interval(hits: npt.NDArray[np.bool_]) -> Interval:
    """Returns the share of True in (n,), n > 0, with Wilson's score interval."""
    wilson = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    return _interval(len(hits), hits.mean(), wilson.low, wilson.high)


def mean_interval(values: npt.NDArray[Any]) -> Interval:
    """Returns the mean of values (n,), n > 0, none below 0, with the normal interval of a mean."""
    values = values.astype(np.float64)
    # scipy.stats.sem would be NaN for a single value.
    value, margin = values.mean(), 1.96 * values.std() / len(values) ** 0.5
    return _interval(len(values), value, max(0.0, value - margin), value + margin)


def _interval(n: int, value: float, low: float, high: float) -> Interval:
    return {"n": n, "value": round(float(value), 5), "low": round(float(low), 5), "high": round(float(high), 5)}
