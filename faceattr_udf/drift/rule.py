"""Judges one value of a night against the same value of earlier nights.

Tests for equal distributions alarm on every night of a large catalogue, because nights differ by more than chance. An
index such as PSI with its usual bounds does not see a share move by five points. So a change must be large in points,
and unlikely in view of the scatter of the nights themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Final

from faceattr_udf.config import DriftConfig
from faceattr_udf.drift.student import two_sided

_NO_NOISE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Value:
    """A value of one night.

    Attributes:
        value: The share, mean or size.
        n: The faces or images that it is of.
        sampling_sd: Its standard deviation by the choice of photographs alone.
    """

    value: float
    n: int
    sampling_sd: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rule says about a value.

    Attributes:
        value: The value.
        reference: Mean of the earlier nights; None without any.
        reference_nights: Their number.
        change: The value minus the reference.
        noise_sd: Standard deviation of the change between nights where nothing has changed.
        t: Change in units of `noise_sd`.
        threshold: The t from which on it is an alarm.
        alarm: Whether the value has drifted.
        reason: Why it was not judged; None where it was.
    """

    value: Value
    reference: float | None = None
    reference_nights: int = 0
    change: float | None = None
    noise_sd: float | None = None
    t: float | None = None
    threshold: float | None = None
    alarm: bool = False
    reason: str | None = None


def judge(tonight: Value, earlier: Sequence[Value], unit: float, settings: DriftConfig) -> Verdict:
    """Judges a value.

    With m earlier nights of variance s^2 a change of a quiet night has the variance s^2 (1 + 1/m), plus what tonight's
    own sampling variance has more than theirs. The change divided by its standard deviation follows Student's t
    distribution with m - 1 degrees of freedom, whose quantile is the threshold: few nights know their scatter badly.

    Args:
        tonight: The value.
        earlier: The same value of earlier nights; those of fewer than `min_faces` do not count.
        unit: What `drift.points` counts, in the units of the value.
        settings: The rule's settings.

    >>> nights = [Value(share, 20_000, 0.003) for share in (0.30, 0.31, 0.29, 0.30, 0.31, 0.30, 0.29)]
    >>> judge(Value(0.42, 20_000, 0.003), nights, 0.01, DriftConfig()).alarm
    True
    >>> judge(Value(0.32, 20_000, 0.003), nights, 0.01, DriftConfig()).alarm
    False
    """
    known = [value for value in earlier if value.n >= settings.min_faces]
    m = len(known)
    mean = fmean(value.value for value in known) if known else None
    change = None if mean is None else tonight.value - mean
    if tonight.n < settings.min_faces:
        return Verdict(tonight, mean, m, change, reason=f"only {tonight.n} of {settings.min_faces}")
    if m < settings.min_nights or change is None:
        return Verdict(tonight, mean, m, change, reason=f"only {m} of {settings.min_nights} earlier nights")
    sampled = fmean(value.sampling_sd**2 for value in known)
    # Nights scatter by chance alone, too: where they seem to scatter less, that is luck.
    scatter = max(variance(value.value for value in known), sampled)
    noise = math.sqrt(scatter * (1 + 1 / m) + max(0.0, tonight.sampling_sd**2 - sampled))
    noise = max(noise, _NO_NOISE)
    threshold = two_sided(settings.false_alarms, m - 1)
    t = change / noise
    is_large = abs(change) >= settings.points * unit
    return Verdict(tonight, mean, m, change, noise, t, threshold, alarm=is_large and abs(t) >= threshold)
