"""How often the model is wrong about whom, as measured on labeled faces: beside the attribute that it concerns."""

from collections.abc import Mapping
from typing import Any, Final

from faceattr_udf.labels import COARSE_LABELS
from faceattr_udf.report import charts, words
from faceattr_udf.report.blocks import Figure, Table
from faceattr_udf.report.inputs import Row, Rows, Scope, number

_LEAST: Final = 30
"""Labeled faces of a group, below which its error is not worth a line."""

_DIMENSIONS: Final = {"age_group": "age", "gender": "gender", "ethnicity": "ethnicity"}
"""Column of the measurement -> the attribute that it is of."""


def measured_groups(measured: Mapping[str, Any]) -> Rows:
    """Returns accuracy by group from the record of weights; empty where it has none, or of another form."""
    test = measured.get("test")
    groups = test.get("by_group") if isinstance(test, Mapping) else None
    return [row for row in groups if isinstance(row, Mapping)] if isinstance(groups, list) else []


def error_figure(attribute: str, scope: Scope, model: str | None) -> Figure | str:
    """Returns the figure of an attribute's errors by group, or a sentence that says why there is none."""
    if model is not None and model.rpartition("+")[2] != scope.attribute_model:
        return f"Errors of {attribute} by group are not shown: the configuration names another model than these faces."
    key = "age_mae" if attribute == "age" else f"{attribute}_accuracy"
    found = [row for group in scope.groups if (row := _measured(group, key, scope.attributes)) is not None]
    rows = sorted(found, key=lambda row: list(_DIMENSIONS).index(row["dimension"]))
    if len(rows) < 2:
        return f"Errors of {attribute} by group are not shown: they were not measured for two groups or more."
    is_age = attribute == "age"
    worst, best = max(rows, key=lambda row: row["value"]), min(rows, key=lambda row: row["value"])
    if is_age:
        finding = (
            f"Ages are off by {_years(worst['value'])} on average for {worst['name']}, and by {_years(best['value'])} "
            f"for {best['name']}."
        )
    else:
        finding = (
            f"{attribute.capitalize()} is wrong most often for {worst['name']}, {words.percent(worst['value'])} "
            f"({words.interval(worst['low'], worst['high'])}), and least often for {best['name']}, "
            f"{words.percent(best['value'])}."
        )
    title = "For whom ages are wrong" if is_age else "For whom answers are wrong"
    alternative = f"Dot plot with 95 % intervals of the model's error by group of labeled faces. {finding}"
    axis = "mean absolute error, years" if is_age else "wrong answers"
    write = _years if is_age else words.percent
    table = Table(
        ("group", "labeled faces", "error", "95 % interval"),
        tuple(
            (row["name"], words.count(row["n"]), write(row["value"]), f"{write(row['low'])} to {write(row['high'])}")
            for row in rows
        ),
    )
    notes = ("Measured on labeled test faces, with an answer for every face; not on these photographs.",)
    picture = charts.dots(rows, axis, alternative, percent=not is_age)
    return Figure(f"errors-{attribute}", title, finding, picture, table, notes, tall=True)


def _measured(row: Row, key: str, attributes: tuple[str, ...]) -> dict[str, Any] | None:
    """Returns name, n, value, low and high of the error of a group by one listed attribute; None for other rows."""
    named = [column for column in _DIMENSIONS if row.get(column, "all") != "all"]
    measured = row.get(key)
    if len(named) != 1 or _DIMENSIONS[named[0]] not in attributes or not measured or measured["n"] < _LEAST:
        return None
    value, low, high = (number(measured.get(name)) for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return None
    if key.endswith("_accuracy"):
        value, low, high = 1 - value, 1 - high, 1 - low
    group = str(row[named[0]])
    if group in COARSE_LABELS.get(named[0], ()):  # stands for several labels of data sets, not for a group of people
        return None
    name = f"age {group}" if named[0] == "age_group" else words.label(group)
    return {"dimension": named[0], "name": name, "n": measured["n"], "value": value, "low": low, "high": high}


def _years(years: float) -> str:
    return f"{years:.1f} years"
