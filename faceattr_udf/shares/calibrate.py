"""Measures the statistics of a correction on labeled faces."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from faceattr_udf.arrays import Float64Array, Int64Array
from faceattr_udf.shares.statistics import (
    BANDS,
    POOLED,
    AttributeStatistics,
    Method,
    Scores,
    SourceMeans,
    band_of,
)

MIN_FACES: Final = 20
"""Calibration faces that each label needs; with fewer, the attribute is not corrected."""

MIN_BAND_FACES: Final = 150
"""Calibration faces of each label that a quality band needs for statistics of its own."""

MIN_SOURCE_FACES: Final = 15
"""Faces of a label that a source needs to count among the label's sources."""

PARTS: Final = 3
"""Parts into which the faces of a most likely label are divided by confidence."""


def calibrate(
    labels: tuple[str, ...],
    *,
    truth: Int64Array,
    scores: npt.NDArray[np.floating],
    face_px: npt.NDArray[np.floating],
    sources: npt.NDArray[np.str_],
    predicted: Int64Array,
) -> AttributeStatistics | None:
    """Measures how a model scores faces of every label.

    Args:
        labels: The K labels.
        truth: (n,), the index of each face's label.
        scores: (n, K), the model's probabilities; rows sum to 1.
        face_px: (n,), shorter sides of the boxes, pixels.
        sources: (n,), the data set of each face.
        predicted: (n,), the index of the label for which the model decides, whether or not it abstains.

    Returns:
        The statistics; None where a label has fewer than `MIN_FACES` faces.
    """
    count = len(labels)
    values = np.asarray(scores, dtype=np.float64)
    if np.bincount(truth, minlength=count).min() < MIN_FACES:
        return None
    by_method: dict[Method, Float64Array] = {"acc": np.eye(count)[predicted], "pacc": values}
    bands = band_of(np.asarray(face_px, dtype=np.float64))
    edges = confidence_edges(values)
    return AttributeStatistics(
        labels=labels,
        scores={method: _by_band(truth, one, bands, count) for method, one in by_method.items()},
        sources={method: _by_source(truth, one, sources, count) for method, one in by_method.items()},
        edges=edges,
        cells=_cell_rates(truth, cells_of(values, edges), count),
    )


def _by_band(truth: Int64Array, scores: Float64Array, bands: Int64Array, count: int) -> Mapping[str, Scores]:
    found = {POOLED: _measure(truth, scores, count)}
    for index, band in enumerate(BANDS):
        mine = bands == index
        if np.bincount(truth[mine], minlength=count).min() >= MIN_BAND_FACES:
            found[band] = _measure(truth[mine], scores[mine], count)
    return found


def _measure(truth: Int64Array, scores: Float64Array, count: int) -> Scores:
    groups = [scores[truth == label] for label in range(count)]
    return Scores(
        faces=np.array([len(group) for group in groups], dtype=np.int64),
        means=np.stack([group.mean(axis=0) for group in groups]),
        covariances=np.stack([np.cov(group, rowvar=False) for group in groups]),
    )


def _by_source(
    truth: Int64Array, scores: Float64Array, sources: npt.NDArray[np.str_], count: int
) -> Mapping[str, SourceMeans]:
    found = {}
    for source in np.unique(sources):
        mine = sources == source
        faces = np.bincount(truth[mine], minlength=count)
        faces[faces < MIN_SOURCE_FACES] = 0
        means = np.full((count, count), np.nan)
        for label in np.flatnonzero(faces):
            means[label] = scores[mine & (truth == label)].mean(axis=0)
        if faces.any():
            found[str(source)] = SourceMeans(faces, means)
    return found


def confidence_edges(scores: Float64Array) -> Float64Array:
    """Returns by most likely label the confidences that divide its faces into three equal parts, (K, 2).

    Labels that are never the most likely one get edges at 0: all their faces are in the last part.
    """
    best, confidence = scores.argmax(axis=1), scores.max(axis=1)
    edges = np.zeros((scores.shape[1], PARTS - 1))
    for label in range(scores.shape[1]):
        mine = confidence[best == label]
        if len(mine):
            edges[label] = np.quantile(mine, np.arange(1, PARTS) / PARTS)
    return edges


def cells_of(scores: Float64Array, edges: Float64Array) -> Int64Array:
    """Returns each face's cell: 3 times its most likely label, plus the part of its confidence (0, 1 or 2).

    >>> cells_of(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.6, 0.8], [0.7, 0.9]])).tolist()
    [2, 3]
    """
    best, confidence = scores.argmax(axis=1), scores.max(axis=1)
    return np.asarray(PARTS * best + (confidence[:, None] >= edges[best]).sum(axis=1), dtype=np.int64)


def _cell_rates(truth: Int64Array, cells: Int64Array, count: int) -> Float64Array:
    table = np.zeros((count, PARTS * count))
    np.add.at(table, (truth, cells), 1.0)
    return np.asarray(table / table.sum(axis=1, keepdims=True))
