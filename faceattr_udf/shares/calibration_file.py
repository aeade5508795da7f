"""The file `NAME.quantify.json` beside a model's weights: the statistics of its correction, typed and checked."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from faceattr_udf.arrays import Float64Array
from faceattr_udf.errors import WeightsError
from faceattr_udf.labels import AGE_GROUPS, CLASSES
from faceattr_udf.shares.statistics import (
    AGE_GROUP,
    BANDS,
    METHODS,
    POOLED,
    AttributeStatistics,
    Method,
    Scores,
    SourceMeans,
)
from faceattr_udf.weights import WeightsRecord, load_file

SUFFIX: Final = "quantify.json"
LABELS: Final[Mapping[str, tuple[str, ...]]] = {AGE_GROUP: AGE_GROUPS, **CLASSES}
"""Attribute -> its labels, in the order of every array; the attributes whose shares are corrected."""

_DIGITS: Final = 6


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _ScoresPart(_Part):
    """`Scores` as JSON; of each symmetric covariance the upper triangle, row by row."""

    faces: list[int]
    means: list[list[float]]
    covariances: list[list[float]]

    def to_scores(self) -> Scores:
        count = len(self.faces)
        upper = np.triu_indices(count)
        covariances = np.zeros((count, count, count))
        covariances[:, upper[0], upper[1]] = self.covariances
        covariances[:, upper[1], upper[0]] = self.covariances
        return Scores(np.array(self.faces, dtype=np.int64), _rows(self.means), covariances)

    @classmethod
    def of(cls, scores: Scores) -> Self:
        upper = np.triu_indices(len(scores.faces))
        triangles = _plain(scores.covariances[:, upper[0], upper[1]])
        return cls(faces=scores.faces.tolist(), means=_plain(scores.means), covariances=triangles)

    def fits(self, count: int) -> bool:
        """Checks the numbers of labels, and that each mean is a distribution."""
        shapes = [len(self.faces), *(len(part) for part in (self.means, self.covariances)), *map(len, self.means)]
        triangle = count * (count + 1) // 2
        return (
            set(shapes) == {count}
            and all(len(row) == triangle for row in self.covariances)
            and min(self.faces) > 0
            and all(abs(sum(row) - 1.0) < 1e-3 for row in self.means)
        )


class _SourcePart(_Part):
    """`SourceMeans` as JSON; rows of labels without faces are empty."""

    faces: list[int]
    means: list[list[float]]

    def to_means(self) -> SourceMeans:
        count = len(self.faces)
        rows = [row or [float("nan")] * count for row in self.means]
        return SourceMeans(np.array(self.faces, dtype=np.int64), _rows(rows))

    @classmethod
    def of(cls, source: SourceMeans) -> Self:
        rows = _plain(source.means)
        return cls(
            faces=source.faces.tolist(), means=[row if n else [] for row, n in zip(rows, source.faces, strict=True)]
        )

    def fits(self, count: int) -> bool:
        return len(self.faces) == len(self.means) == count and all(
            len(row) == (count if n else 0) for row, n in zip(self.means, self.faces, strict=True)
        )


class _AttributePart(_Part):
    labels: list[str]
    scores: dict[Method, dict[Literal["pooled", "small", "medium", "large"], _ScoresPart]]
    sources: dict[Method, dict[str, _SourcePart]]
    edges: list[list[float]]
    cells: list[list[float]]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        count = len(self.labels)
        groups = [part for by_band in self.scores.values() for part in by_band.values()]
        sources = [part for by_source in self.sources.values() for part in by_source.values()]
        if (
            set(self.scores) != set(METHODS)
            or set(self.sources) != set(METHODS)
            or any(POOLED not in by_band for by_band in self.scores.values())
            or not all(part.fits(count) for part in groups)
            or not all(part.fits(count) for part in sources)
            or any(len(matrix) != count for matrix in (self.edges, self.cells))
            or any(len(row) != 2 for row in self.edges)
            or any(len(row) != 3 * count for row in self.cells)
        ):
            msg = f"its numbers do not fit {count} labels"
            raise ValueError(msg)
        return self


class _File(_Part):
    format: Literal[1] = 1
    attribute_model: str
    attributes: dict[str, _AttributePart]

    @model_validator(mode="after")
    def _known_labels(self) -> Self:
        for attribute, part in self.attributes.items():
            if tuple(part.labels) != LABELS.get(attribute):
                msg = f"{attribute} does not have the product's labels"
                raise ValueError(msg)
        return self


@dataclass(frozen=True, eq=False)
class Calibration:
    """The correction of one model's shares.

    Attributes:
        calibration_id: The first sixteen hexadecimal digits of the file's SHA-256.
        attribute_model: `WeightsRecord.model_version` of the attribute model that was measured.
        attributes: Attribute -> its statistics; attributes that cannot be corrected are missing.
    """

    calibration_id: str
    attribute_model: str
    attributes: Mapping[str, AttributeStatistics]


def write_calibration(path: Path, attribute_model: str, attributes: Mapping[str, AttributeStatistics]) -> None:
    """Writes the file; the same statistics give the same bytes."""
    content = _File(
        attribute_model=attribute_model,
        attributes={name: _part(statistics) for name, statistics in attributes.items()},
    )
    path.write_text(content.model_dump_json() + "\n", encoding="utf-8")


def read_calibration(content: bytes, name: str) -> Calibration:
    """Reads the bytes of such a file.

    Raises:
        WeightsError: They are not such a file; the message names `name`.
    """
    try:
        file = _File.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the JSON"
        msg = f"{name} is malformed (first error: {key}); write it again with faceattr evaluate --quantify {name}"
        raise WeightsError(msg) from error
    return Calibration(
        calibration_id=hashlib.sha256(content).hexdigest()[:16],
        attribute_model=file.attribute_model,
        attributes={attribute: _statistics(part) for attribute, part in file.attributes.items()},
    )


def load_calibration(record: WeightsRecord, folder: str | Path | None = None) -> Calibration | None:
    """Loads the calibration of a model and verifies its checksum.

    Args:
        record: The model's record.
        folder: Folder of its files; None means the package.

    Returns:
        The calibration; None if the record names none.

    Raises:
        WeightsError: The file is missing, altered, malformed, or of another version of the model.
    """
    name = f"{record.name}.{SUFFIX}"
    if name not in record.sha256:
        return None
    calibration = read_calibration(load_file(record, SUFFIX, folder), name)
    if calibration.attribute_model != record.model_version:
        msg = (
            f"{name} was measured for {calibration.attribute_model}, but the model is {record.model_version}; "
            "measure it again with faceattr evaluate --quantify"
        )
        raise WeightsError(msg)
    return calibration


def _part(statistics: AttributeStatistics) -> _AttributePart:
    return _AttributePart.model_validate(
        {
            "labels": list(statistics.labels),
            "scores": {
                method: {band: _ScoresPart.of(by_band[band]) for band in (POOLED, *BANDS) if band in by_band}
                for method, by_band in statistics.scores.items()
            },
            "sources": {
                method: {source: _SourcePart.of(means) for source, means in by_source.items()}
                for method, by_source in statistics.sources.items()
            },
            "edges": _plain(statistics.edges),
            "cells": _plain(statistics.cells),
        }
    )


def _statistics(part: _AttributePart) -> AttributeStatistics:
    return AttributeStatistics(
        labels=tuple(part.labels),
        scores={
            method: {band: scores.to_scores() for band, scores in by_band.items()}
            for method, by_band in part.scores.items()
        },
        sources={
            method: {source: means.to_means() for source, means in by_source.items()}
            for method, by_source in part.sources.items()
        },
        edges=_rows(part.edges),
        cells=_rows(part.cells),
    )


def _plain(values: Float64Array) -> list[list[float]]:
    return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in values.tolist()]


def _rows(values: list[list[float]]) -> Float64Array:
    """Returns an array; rounding has moved the sums of distributions by a few millionths, which does not matter."""
    return np.array(values, dtype=np.float64)
