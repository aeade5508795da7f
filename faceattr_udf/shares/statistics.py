"""What the correction needs to know about a model: how it scores faces of every label."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

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

Method = Literal["acc", "pacc"]
"""What is corrected: "acc" counts of the most likely labels (Forman 2008, "adjusted count"), "pacc" means of the
probabilities (Bella et al. 2010, "probabilistic adjusted count")."""

METHODS: Final[tuple[Method, ...]] = ("acc", "pacc")

RAW: Final = "none"
"""The method where nothing can be corrected: the share is that of the labels that the model finds most likely."""

MAX_CONDITION: Final = 30.0
"""Condition number of the mean scores above which nothing is corrected: errors would be multiplied by as much."""


MIN_SOURCES: Final = 3
"""Sources of every label from which the differences between sources are estimated."""


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
class SourceMeans:
    """How a model scores the faces of one data set.

    Attributes:
        faces: (K,), its calibration faces of each label.
        means: (K, K), as `Scores.means`; rows of labels without faces are NaN.
    """

    faces: Int64Array
    means: Float64Array


@dataclass(frozen=True, eq=False)
class AttributeStatistics:
    """The statistics of one attribute.

    Attributes:
        labels: The K labels, in the order of every array.
        scores: Method -> "pooled" and the quality bands that have enough faces -> their statistics.
        sources: Method -> source of calibration faces -> its mean scores.
        edges: (K, 2), by the most likely label: the confidences that divide calibration faces into three equal parts.
        cells: (K, 3 K), row k: the shares of faces with label k in the cells, most likely label times part.
    """

    labels: tuple[str, ...]
    scores: Mapping[Method, Mapping[str, Scores]]
    sources: Mapping[Method, Mapping[str, SourceMeans]]
    edges: Float64Array
    cells: Float64Array

    def group(self, method: Method, band: str) -> str:
        """Returns which statistics serve a quality band: its own, or the pooled ones."""
        return band if band in self.scores[method] else POOLED

    def corrects(self, method: Method) -> bool:
        """Returns whether a method can correct shares of this attribute without multiplying errors too much."""
        return all(scores.condition <= MAX_CONDITION for scores in self.scores[method].values())

    def transfer(self, method: Method) -> tuple[Float64Array, int] | None:
        """Estimates how much the mean scores of a label differ between sources of photographs.

        Returns:
            The covariance of one more source's means, (K, K, K) by label: that of the sources' means, times 1 + 1 / S;
            and S, the number of sources of the label that has the fewest. None where a label has fewer than
            `MIN_SOURCES`: two sources do not tell how far a third may be.
        """
        pooled = self.scores[method][POOLED].means
        found = [
            [source.means[label] - pooled[label] for source in self.sources[method].values() if source.faces[label]]
            for label in range(len(self.labels))
        ]
        fewest = min(len(one) for one in found)
        if fewest < MIN_SOURCES:
            return None
        products = [np.einsum("si,sj->ij", np.stack(one), np.stack(one)) for one in found]
        factors = [(1.0 + 1.0 / len(one)) / (len(one) - 1) for one in found]
        return np.stack([product * factor for product, factor in zip(products, factors, strict=True)]), fewest
