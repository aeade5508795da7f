"""What the page is made of: aggregated rows of the marts, the drift and the runs, as plain data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

Row = Mapping[str, Any]
Rows = Sequence[Row]

ATTRIBUTES: Final = {"age": "age_group", "gender": "gender", "ethnicity": "ethnicity", "emotion": "emotion"}
"""Attribute of the configuration -> its name in the marts, in the order of the page."""


@dataclass(frozen=True)
class ReportInputs:
    """Rows of the tables; None where a table does not exist, empty where it has no rows.

    Every row of a mart has `model_version`: versions of a model are never summed.

    Attributes:
        totals: Faces by quality_band: n_faces, n_abstained_*, n_minors.
        days: first and last day, n_undated and n_future faces.
        catalogs: The largest catalogs: catalog, n_faces.
        n_catalogs: The number of all catalogs.
        audience: Faces by age_group and gender: n_faces.
        photographs: Photographs by crowd and composition: n_photographs, n_faces.
        coverage: Images by status and reason: n_images, n_faces.
        quality: Per model the means over days of the quantiles of face_px, blur and brightness, weighted by faces.
        shares: Rows of the mart of one catalog and period.
        runs: The latest runs.
        drift: Rows of the latest nights.
        built_at: When the marts were built.
        missing: Names of the tables that do not exist.
    """

    totals: Rows | None = None
    days: Rows | None = None
    catalogs: Rows | None = None
    n_catalogs: int = 0
    audience: Rows | None = None
    photographs: Rows | None = None
    coverage: Rows | None = None
    quality: Rows | None = None
    shares: Rows | None = None
    runs: Rows | None = None
    drift: Rows | None = None
    built_at: datetime | None = None
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class Scope:
    """What the page is about, and what it may show.

    Attributes:
        attributes: The attributes of the configuration; nothing about others is on the page.
        min_count: Cells of fewer faces or photographs are not shown.
        catalog: The catalog; None means all.
        month: YYYY-MM; None means all days.
        attribute_model: Version of the model that `groups` were measured with.
        groups: Measured accuracy by group of people, from the record of the weights; empty where nobody measured it.
        now: When the page is made.
        minors: Whether faces that may be minors' keep no other attributes than the configuration says.
    """

    attributes: tuple[str, ...]
    min_count: int
    now: datetime
    catalog: str | None = None
    month: str | None = None
    attribute_model: str = ""
    groups: Rows = field(default=())
    minors: bool = False

    def lists(self, mart_attribute: str) -> bool:
        """Checks whether the configuration lists an attribute, by its name in the marts."""
        return any(ATTRIBUTES[name] == mart_attribute for name in self.attributes)


def number(value: Any) -> float | None:  # noqa: ANN401 - a value of a table
    """Returns a finite number, or None for what is none.

    >>> number(2), number(float("nan")), number(None)
    (2.0, None, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def chosen_model(inputs: ReportInputs) -> str | None:
    """Returns the model whose faces the page shows: that of the latest run of which the marts have faces.

    Without such a run it is the model with most faces; None without faces.
    """
    faces: dict[str, int] = {}
    for row in inputs.totals or ():
        faces[row["model_version"]] = faces.get(row["model_version"], 0) + row["n_faces"]
    for run in newest_first(inputs.runs or ()):
        if faces.get(run["model_version"]):
            return str(run["model_version"])
    return max(faces, key=lambda version: (faces[version], version)) if faces else None


def newest_first(runs: Rows) -> list[Row]:
    """Returns runs by falling start; those without one are left out."""
    return sorted((run for run in runs if run["started_at"] is not None), key=lambda run: run["started_at"])[::-1]


def of_model(rows: Rows | None, model: str | None) -> list[Row]:
    """Returns the rows of one model."""
    return [row for row in rows or () if row["model_version"] == model]
