"""The report on a model: all faces, each source, each group of people, and for whom it is worst."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from faceattr_udf.attributes.labels import AGE_GROUPS, CLASSES
from faceattr_udf.datasets.labelled_faces import LabelledFaces
from faceattr_udf.evaluation.metrics import Mask, Probabilities, age_group_of, expected_age, mean, measure

SMALLEST_GROUP = 30
"""Groups with fewer labelled faces are listed but not compared: their figures are mostly chance."""

_DIMENSIONS = ("age_group", "gender", "ethnicity")


def report(probabilities: Probabilities, faces: LabelledFaces) -> dict[str, Any]:
    """Scores a model on labelled faces.

    Args:
        probabilities: As a predictor gives them, for all faces.
        faces: The labels.

    Returns:
        overall and by_source: figures as `metrics.measure` gives them;
        by_group: rows of age_group, gender, ethnicity ("all" where a row is not about one), n and figures with their
        95 % intervals, for each label by itself and for all combinations of the three;
        worst_group: task -> the row where it is worst, the best one's figure, and the gap between the two;
        unknown_labels: attribute -> labels that the model has no class for, with their counts;
        unreadable: image_id of the rows whose image could not be read.
    """
    groups = by_group(probabilities, faces)
    return {
        "overall": measure(probabilities, faces, np.ones(len(faces), dtype=bool)),
        "by_source": {
            str(source): measure(probabilities, faces, faces.source == source) for source in np.unique(faces.source)
        },
        "by_group": groups,
        "worst_group": worst_groups(groups),
        "unknown_labels": {attribute: values for attribute, values in faces.unknown_labels.items() if values},
        "unreadable": list(faces.unreadable),
    }


def by_group(probabilities: Probabilities, faces: LabelledFaces) -> list[dict[str, Any]]:
    """Figures for each age group, gender and ethnicity, alone and combined; groups without faces are left out."""
    values = {
        "age_group": ["all", *AGE_GROUPS],
        "gender": ["all", *CLASSES["gender"]],
        "ethnicity": ["all", *CLASSES["ethnicity"]],
    }
    truth = {"age_group": age_group_of(faces), **{name: _names(faces, name) for name in _DIMENSIONS[1:]}}
    errors = {name: _errors(name, probabilities, faces) for name in ("age", *CLASSES)}
    rows = []
    for combination in product(*(values[name] for name in _DIMENSIONS)):
        named = dict(zip(_DIMENSIONS, combination, strict=True))
        if sum(value != "all" for value in combination) not in {1, len(_DIMENSIONS)}:
            continue
        members = np.ones(len(faces), dtype=bool)
        for name, value in named.items():
            if value != "all":
                members &= truth[name] == value
        if members.any():
            rows.append({**named, "n": int(members.sum()), **_figures(errors, members)})
    return rows


def worst_groups(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per task and per kind of group (one label, or all three): the worst group, the best, the gap."""
    worst: dict[str, dict[str, Any]] = {}
    for task, (figure, sign) in _TASKS.items():
        for kind, belongs in _KINDS.items():
            rows = [row for row in groups if belongs(row) and row[figure] and row[figure]["n"] >= SMALLEST_GROUP]
            if len(rows) < 2:
                continue
            ordered = sorted(rows, key=lambda row: sign * row[figure]["value"])
            low, high = ordered[0], ordered[-1]
            worst.setdefault(task, {})[kind] = {
                "worst": _label(low),
                "n": low[figure]["n"],
                "value": low[figure]["value"],
                "best": _label(high),
                "best_value": high[figure]["value"],
                "gap": round(abs(high[figure]["value"] - low[figure]["value"]), 5),
            }
    return worst


_TASKS = {
    "age": ("age_mae", -1.0),
    "gender": ("gender_accuracy", 1.0),
    "ethnicity": ("ethnicity_accuracy", 1.0),
    "emotion": ("emotion_accuracy", 1.0),
}


def _one(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda row: all((row[other] != "all") == (other == name) for other in _DIMENSIONS)


_KINDS: dict[str, Callable[[dict[str, Any]], bool]] = {
    **{name: _one(name) for name in _DIMENSIONS},
    "combined": lambda row: all(row[name] != "all" for name in _DIMENSIONS),
}


def _label(row: dict[str, Any]) -> str:
    return ", ".join(row[name] for name in _DIMENSIONS if row[name] != "all")


def _names(faces: LabelledFaces, attribute: str) -> npt.NDArray[np.str_]:
    # A label of -1 takes the last entry.
    return np.array([*CLASSES[attribute], ""], dtype=np.str_)[faces.labels[attribute]]


def _errors(task: str, probabilities: Probabilities, faces: LabelledFaces) -> tuple[npt.NDArray[np.float64], Mask]:
    """Per face the error in years, or 1 for right and 0 for wrong; and for which faces there is one."""
    count = len(faces)
    if task not in probabilities:
        return np.zeros(count), np.zeros(count, dtype=bool)
    if task == "age":
        low, high = faces.age_range.T
        error = np.abs(expected_age(probabilities["age"]) - low).astype(np.float64)
        return error, (low == high) & (low >= 0)
    hits = probabilities[task].argmax(axis=1) == faces.labels[task]
    return hits.astype(np.float64), (faces.labels[task] >= 0) | faces.unknown[task]


def _figures(errors: dict[str, tuple[npt.NDArray[np.float64], Mask]], members: Mask) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for task, (figure, _) in _TASKS.items():
        values, there = errors[task]
        mine = values[members & there]
        if len(mine) == 0:
            figures[figure] = None
        elif task == "age":
            spread = 1.96 * float(mine.std()) / len(mine) ** 0.5
            value = float(mine.mean())
            figures[figure] = _interval(len(mine), value, max(0.0, value - spread), value + spread)
        else:
            wilson = binomtest(int(mine.sum()), len(mine)).proportion_ci(0.95, method="wilson")
            figures[figure] = _interval(len(mine), mean(mine) or 0.0, wilson.low, wilson.high)
    return figures


def _interval(n: int, value: float, low: float, high: float) -> dict[str, float]:
    return {"n": n, "value": round(value, 5), "low": round(float(low), 5), "high": round(float(high), 5)}
