"""Corrects shares from sums of scores, with their standard errors by the delta method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from faceattr_udf.arrays import BoolArray, Float64Array
from faceattr_udf.shares.simplex import project
from faceattr_udf.shares.statistics import AttributeStatistics, Method, Scores

Population = Literal["catalogue", "audience"]
"""Whose shares are meant. "catalogue": of exactly these faces. "audience": of the people of whom these photographs are
a random sample; then the choice of the photographs is uncertain, too."""

Z: Final = 1.959964
"""The 97.5 % quantile of the normal distribution."""

_T: Final = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157)
"""The 97.5 % quantiles of Student's t with 1, 2, ... 9 degrees of freedom; with more the last one is used, which is at
most 16 % too wide."""


@dataclass(frozen=True, eq=False)
class Sums:
    """What is summed over faces, and added over days, catalogues and slices.

    Attributes:
        scores: (K,), the sum of the scores; its own sum is the number of faces.
        products: (K, K), the sum over photographs of s s^T, where s is the sum of the scores of its faces.
    """

    scores: Float64Array
    products: Float64Array

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.scores + other.scores, self.products + other.products)


@dataclass(frozen=True, eq=False)
class CorrectedShares:
    """The shares of the K labels of an attribute.

    Attributes:
        share: (K,), not negative and summing to 1.
        unprojected: (K,), before the projection onto the simplex; may be negative. The intervals are around these, and
            reach to the projected ones.
        low: (K,), lower bound of the 95 % interval.
        high: (K,), upper bound.
        se_sample: (K,), standard error from the faces at hand.
        se_model: (K,), standard error from the calibration faces.
        se_transfer: (K,), standard error from differences between sources of photographs; None where a label has too
            few sources.
        low_transfer: (K,), lower bound with `se_transfer`, which counts by Student's t; None likewise.
        high_transfer: (K,), upper bound.
        n_faces: The number of faces.
        method: "pacc" if all faces had probabilities and these were corrected, else "acc".
    """

    share: Float64Array
    unprojected: Float64Array
    low: Float64Array
    high: Float64Array
    se_sample: Float64Array
    se_model: Float64Array
    se_transfer: Float64Array | None
    low_transfer: Float64Array | None
    high_transfer: Float64Array | None
    n_faces: float
    method: Method


def photograph_sums(scores: Float64Array, photographs: np.ndarray | None = None) -> Sums:
    """Returns the sums of faces.

    Args:
        scores: (n, K), rows sum to 1.
        photographs: (n,), equal for faces of one photograph; None: each face has its own.
    """
    groups = np.arange(len(scores)) if photographs is None else np.unique(photographs, return_inverse=True)[1]
    by_photograph = np.zeros((int(groups.max(initial=-1)) + 1, scores.shape[1]))
    np.add.at(by_photograph, groups, scores)
    return Sums(scores.sum(axis=0), by_photograph.T @ by_photograph)


def correct(
    statistics: AttributeStatistics,
    sums: Mapping[tuple[Method, str], Sums],
    population: Population = "catalogue",
) -> CorrectedShares | None:
    """Corrects the shares of one attribute.

    With q the mean score, M the mean scores by label and W = pinv(M^T), the share is W q. Its variance is the sum of
    V_sample (population "catalogue": W (sum_k share_k S_k / N) W^T, because the labels of these faces are what they are
    and only scores vary; "audience": the scatter between photographs) and V_model = W (sum_k share_k^2 S_k / m_k) W^T.
    Groups of faces with statistics of their own are corrected apart and added by their numbers of faces. The transfer
    term W (sum_k share_k^2 T_k) W^T has the covariance T_k of mean scores between sources; it is common to all groups.

    Args:
        statistics: Of the attribute.
        sums: (method, quality band) -> the sums of these faces.
        population: Whose shares are meant.

    Returns:
        The shares; None without faces, or where `AttributeStatistics.corrects` is false for a method.
    """
    groups: dict[tuple[Method, str], Sums] = {}
    for (method, band), more in sums.items():
        key = (method, statistics.group(method, band))
        groups[key] = groups[key] + more if key in groups else more
    total = sum(float(one.scores.sum()) for one in groups.values())
    methods: set[Method] = {method for method, _ in groups}
    if total <= 0.0 or not all(statistics.corrects(method) for method in methods):
        return None
    count = len(statistics.labels)
    share, sample, model = np.zeros(count), np.zeros(count), np.zeros(count)
    between = {method: statistics.transfer(method) for method in methods}
    known = [one for one in between.values() if one is not None]
    transfer = np.zeros(count) if len(known) == len(between) else None
    for (method, group), one in groups.items():
        part = float(one.scores.sum()) / total
        if part == 0.0:
            continue
        scores = statistics.scores[method][group]
        mine = scores.weights @ one.scores / one.scores.sum()
        share += part * mine
        sample += part**2 * _variance(scores.weights, _sampling(scores, one, mine, population))
        model += part**2 * _variance(scores.weights, np.einsum("k,kij->ij", mine**2 / scores.faces, scores.covariances))
        moved = between[method]
        if transfer is not None and moved is not None:
            transfer += part * np.sqrt(_variance(scores.weights, np.einsum("k,kij->ij", mine**2, moved[0])))
    margin = wide = Z * np.sqrt(sample + model)
    if transfer is not None:
        wide = np.sqrt(margin**2 + (t_quantile(min(fewest for _, fewest in known)) * transfer) ** 2)
    shown = project(share)
    return CorrectedShares(
        share=shown,
        unprojected=share,
        low=_lower(share - margin, shown),
        high=_upper(share + margin, shown),
        se_sample=np.sqrt(sample),
        se_model=np.sqrt(model),
        se_transfer=transfer,
        low_transfer=None if transfer is None else _lower(share - wide, shown),
        high_transfer=None if transfer is None else _upper(share + wide, shown),
        n_faces=total,
        method="acc" if "acc" in methods else "pacc",
    )


def _lower(bound: Float64Array, shown: Float64Array) -> Float64Array:
    """Returns the lower bound within 0 and the share, which the projection may have moved below it."""
    return np.maximum(np.minimum(bound, shown), 0.0)


def _upper(bound: Float64Array, shown: Float64Array) -> Float64Array:
    return np.minimum(np.maximum(bound, shown), 1.0)


def _sampling(scores: Scores, sums: Sums, share: Float64Array, population: Population) -> Float64Array:
    faces = sums.scores.sum()
    if population == "catalogue":
        return np.asarray(np.einsum("k,kij->ij", np.maximum(share, 0.0), scores.covariances) / faces)
    # sum over photographs of (s - n q) (s - n q)^T; the row sums of s s^T are n s, their sum is n^2.
    mean, by_size = sums.scores / faces, sums.products.sum(axis=1)
    cross = np.outer(by_size, mean)
    return np.asarray((sums.products - cross - cross.T + by_size.sum() * np.outer(mean, mean)) / faces**2)


def _variance(weights: Float64Array, covariance: Float64Array) -> Float64Array:
    return np.asarray(np.maximum(np.einsum("ji,ik,jk->j", weights, covariance, weights), 0.0))


def t_quantile(sources: int) -> float:
    """Returns the 97.5 % quantile of Student's t for a number of sources, at least two.

    >>> t_quantile(3)
    4.302653
    """
    return _T[min(sources - 1, len(_T)) - 1]


def inside(low: Float64Array, high: Float64Array, truth: Float64Array) -> BoolArray:
    """Returns which true shares (K,) lie in their intervals."""
    return np.asarray((low <= truth + 1e-12) & (truth <= high + 1e-12))
