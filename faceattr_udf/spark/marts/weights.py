"""The calibration as tables, so that SQL can correct shares."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from faceattr_udf.shares.calibration_file import Calibration
from faceattr_udf.shares.correct import t_quantile
from faceattr_udf.shares.statistics import BANDS, METHODS, POOLED, AttributeStatistics, Method, Scores
from faceattr_udf.spark.marts.scores import PARTS
from faceattr_udf.spark.marts.sources import UNKNOWN

Row = tuple[object, ...]
_ALL_BANDS: Final = (*BANDS, UNKNOWN)


def label_weights(calibration: Calibration, versions: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of label_weights for these model versions; attributes that cannot be corrected have none."""
    for version in versions:
        for attribute, method, statistics in _corrected(calibration):
            for band in _ALL_BANDS:
                group = statistics.group(method, band)
                weights = statistics.scores[method][group].weights
                for column, score_label in enumerate(statistics.labels):
                    for row, label in enumerate(statistics.labels):
                        key = (version, attribute, method, band, score_label, label)
                        yield (*key, group, float(weights[row, column]), calibration.calibration_id)


def label_weights_var(calibration: Calibration, versions: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of label_weights_var."""
    for version in versions:
        for attribute, method, statistics in _corrected(calibration):
            transfer = statistics.transfer(method)
            for group, scores in statistics.scores[method].items():
                weights = scores.weights
                within = np.einsum("ji,kil,jl->jk", weights, scores.covariances, weights)
                between = None if transfer is None else np.einsum("ji,kil,jl->jk", weights, transfer[0], weights)
                for row, label in enumerate(statistics.labels):
                    for true, true_label in enumerate(statistics.labels):
                        yield (
                            *(version, attribute, method, group, label, true_label),
                            float(max(within[row, true], 0.0) / scores.faces[true]),
                            float(max(within[row, true], 0.0)),
                            None if between is None else float(max(between[row, true], 0.0)),
                            None if transfer is None else t_quantile(transfer[1]),
                        )


def label_cells(calibration: Calibration, versions: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of label_cells."""
    for version in versions:
        for attribute, statistics in calibration.attributes.items():
            faces = _pooled(statistics).faces
            for true, true_label in enumerate(statistics.labels):
                for cell, cell_label in enumerate(statistics.labels):
                    for index, part in enumerate(PARTS):
                        rate = float(statistics.cells[true, len(PARTS) * cell + index])
                        yield version, attribute, true_label, cell_label, part, rate, int(faces[true])


def _pooled(statistics: AttributeStatistics) -> Scores:
    return statistics.scores["acc"][POOLED]


def _corrected(calibration: Calibration) -> Iterator[tuple[str, Method, AttributeStatistics]]:
    for attribute, statistics in calibration.attributes.items():
        for method in METHODS:
            if statistics.corrects(method):
                yield attribute, method, statistics
