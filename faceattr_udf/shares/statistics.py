"""What the correction needs to know about a model: how it scores faces of every label."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from faceattr_udf.arrays import Float64Array, Int64Array

AGE_GROUP: Final = "age_group"
"""The attribute of ages: shares are of ten-year groups."""

BANDS: Final = ("small", "medium", "large")
"""Quality bands of faces, by the shorter side of their box."""

BAND_LIMITS_PX: Final = (40.0, 80.0)
"""A face is small below the first limit, medium up to the second, and large above it; pixels."""

POOLED: Final = "pooled"
"""The name of the statistics over all bands, used by bands that have too few calibration faces."""

PROBABILITIES: Final = "pacc"
"""The method that corrects the mean of probabilities (Bella et al. 2010, "scaled probability average")."""

LABELS_ONLY: Final = "acc"
"""The method that corrects counts of labels (Forman 2008, "adjusted count"), for faces without probabilities."""

RAW: Final = "none"
"""The method where nothing can be corrected: the share is that of the labels that the model finds most likely."""

MAX_CONDITION: Final = 30.0
"""Condition number of the mean scores above which nothing is corrected: errors would be multiplied by as much."""


def band_of(face_px: Float64Array) -> Int64Array:
    """Returns the index of each face's quality band.

    >>> band_of(np.array([39.9, 40.0, 80.0, 80.1])).tolist()
    [0, 1, 1, 2]
    """
    sizes = np.asarray(face_px, dtype=np.float64)
    return (sizes >= BAND_LIMITS_PX[0]).astype(np.int64) + (sizes > BAND_LIMITS_PX[1])


@dataclass(frozen=True, eq=False)
class Scores:
    """How a model scores faces of every label.

    Attributes:
        faces: (K,), the number of calibration faces of each label.
        means: (K, K), row k is the mean of the scores of faces with label k; each row sums to 1.
        covariances: (K, K, K), entry k is the covariance of those scores.
    """

    faces: Int64Array
    means: Float64Array
    covariances: Float64Array

    @property
    def condition(self) -> float:
        """The condition number of the means: how much a correction multiplies errors."""
        return float(np.linalg.cond(self.means))

    @property
    def weights(self) -> Float64Array:
        """W (K, K) with share = W @ mean score: the pseudo-inverse of the transposed means."""
        return np.asarray(np.linalg.pinv(self.means.T))


@dataclass(frozen=True, eq=False)
class AttributeStatistics:
    """The statistics of one attribute.

    Attributes:
        labels: The K labels, in the order of every array.
        scores: Method ("pacc", "acc") -> "pooled" and the quality bands that have enough faces -> their statistics. All
            attributes have "pacc"; only ages have "acc", because all other tables have probabilities.
        sources: Source of calibration faces -> mean scores (K, K) of the method "pacc" in it.
        edges: (K, 2), by the most likely label: the confidences that divide calibration faces into three equal parts.
        cells: (K, 3 K), row k: the shares of faces with label k in the cells, most likely label times part.
    """

    labels: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Scores]]
    sources: Mapping[str, Float64Array]
    edges: Float64Array
    cells: Float64Array

    def group(self, method: str, band: str) -> str:
        """Returns which statistics serve a quality band: its own, or the pooled ones."""
        return band if band in self.scores[method] else POOLED

    @property
    def corrects(self) -> bool:
        """Whether shares of this attribute can be corrected: no correction multiplies errors too much."""
        return all(
            scores.condition <= MAX_CONDITION for groups in self.scores.values() for scores in groups.values()
        )
