"""Evaluation report: metrics over all faces, per source and per demographic group, and the worst group of each task."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from fairlearn.metrics import MetricFrame
from scipy.stats import binomtest

from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.evaluation.metrics import Mask, Probabilities, age_group_of, expected_age, measure
from faceattr_udf.labels import AGE_GROUPS, CLASSES

MIN_GROUP_SIZE = 30
"""Groups with fewer labeled faces are listed but not compared: their metrics are mostly chance."""

DIMENSIONS = {"age_group": AGE_GROUPS, "gender": CLASSES["gender"], "ethnicity": CLASSES["ethnicity"]}
"""What groups are formed by -> the values in their order."""

_ALL = "all"
_GROUPINGS: dict[str, tuple[str, ...]] = {**{name: (name,) for name in DIMENSIONS}, "combined": tuple(DIMENSIONS)}
_METRICS = {"age": "age_mae", **{attribute: f"{attribute}_accuracy" for attribute in CLASSES}}

Interval = dict[str, float]
Values = npt.NDArray[Any]


def report(probabilities: Probabilities, faces: LabeledFaces) -> dict[str, Any]:
    """Scores a model on labeled faces.

    Args:
        probabilities: A predictor's output for all faces.
        faces: The labels.

    Returns:
        overall and by_source: metrics as `metrics.measure` returns them;
        by_group: see `by_group`;
        worst_group: see `worst_groups`;
        unknown_labels: attribute -> labels that the model has no class for, with their counts;
        unreadable: image_id of the rows whose image cannot be decoded.
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


def by_group(probabilities: Probabilities, faces: LabeledFaces) -> list[dict[str, Any]]:
    """Scores each age group, gender and ethnicity, alone and combined.

    Returns:
        One row per group that has faces: age_group, gender, ethnicity ("all" where the group is not limited to one
        value), n (faces in the group), and for each task None or its metric with a 95 % interval: n (faces with this
        label), value, low, high.
    """
    groups = pd.DataFrame(
        {"age_group": age_group_of(faces), **{name: _label_names(faces, name) for name in ("gender", "ethnicity")}}
    )
    tasks = {name: _task(name, probabilities, faces) for name in _METRICS if name in probabilities}
    rows = [row for dimensions in _GROUPINGS.values() for row in _rows(list(dimensions), groups, tasks)]
    order = {name: [_ALL, *values] for name, values in DIMENSIONS.items()}
    return sorted(rows, key=lambda row: [values.index(row[name]) for name, values in order.items()])


def worst_groups(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Finds the groups for which the model is worst.

    Args:
        groups: Rows of `by_group`.

    Returns:
        Task -> grouping ("age_group", "gender", "ethnicity" or "combined") -> the worst group of `MIN_GROUP_SIZE` faces
        or more, its n and value, the best group and its value, and the gap between both values.
    """
    worst: dict[str, dict[str, Any]] = {}
    for task, metric in _METRICS.items():
        for grouping, dimensions in _GROUPINGS.items():
            rows = [
                row
                for row in groups
                if dimensions_of(row) == dimensions and row[metric] and row[metric]["n"] >= MIN_GROUP_SIZE
            ]
            if len(rows) < 2:
                continue
            sign = -1.0 if task == "age" else 1.0
            ordered = sorted(rows, key=lambda row: sign * row[metric]["value"])
            low, high = ordered[0], ordered[-1]
            worst.setdefault(task, {})[grouping] = {
                "worst": label_of(low),
                "n": low[metric]["n"],
                "value": low[metric]["value"],
                "best": label_of(high),
                "best_value": high[metric]["value"],
                "gap": round(abs(high[metric]["value"] - low[metric]["value"]), 5),
            }
    return worst


def dimensions_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the dimensions that a row of `by_group` is limited in."""
    return tuple(name for name in DIMENSIONS if row[name] != _ALL)


def label_of(row: Mapping[str, Any]) -> str:
    """Returns the name of a row of `by_group`, e.g. "30-39, female, black"."""
    return ", ".join(row[name] for name in dimensions_of(row))


@dataclass(frozen=True, slots=True)
class _Task:
    """The truth and predictions (n,) of all faces, which of them have a label, and how to score a group of them."""

    truth: Values
    predicted: Values
    labeled: Mask
    score: Callable[[Values, Values], Interval]


def _task(name: str, probabilities: Probabilities, faces: LabeledFaces) -> _Task:
    if name == "age":
        return _Task(faces.age_range[:, 0], expected_age(probabilities["age"]), faces.has_exact_age(), _mean_error)
    labeled = faces.labeled(name) | faces.unknown[name]
    return _Task(faces.labels[name], probabilities[name].argmax(axis=1), labeled, _accuracy)


def _rows(dimensions: list[str], groups: pd.DataFrame, tasks: Mapping[str, _Task]) -> list[dict[str, Any]]:
    members = (groups[dimensions] != "").all(axis=1).to_numpy()
    scores: dict[str, dict[Hashable, Interval]] = {}
    for name, task in tasks.items():
        scored = members & task.labeled
        if scored.any():
            frame = MetricFrame(
                metrics=task.score,
                y_true=task.truth[scored],
                y_pred=task.predicted[scored],
                sensitive_features=groups.loc[scored, dimensions],
            )
            scores[name] = frame.by_group.dropna().to_dict()
    rows = []
    for key, n in groups.loc[members].groupby(dimensions).size().items():
        values = key if isinstance(key, tuple) else (key,)
        # pandas keys groups by one column by its value and groups by several columns by a tuple.
        own = {name: scores.get(name, {}).get(key) for name in _METRICS}
        rows.append(
            {
                **dict.fromkeys(DIMENSIONS, _ALL),
                **dict(zip(dimensions, values, strict=True)),
                "n": int(n),
                **{_METRICS[name]: value for name, value in own.items()},
            }
        )
    return rows


def _label_names(faces: LabeledFaces, attribute: str) -> npt.NDArray[np.str_]:
    # The label -1 (none) takes the last entry.
    return np.array([*CLASSES[attribute], ""], dtype=np.str_)[faces.labels[attribute]]


def _accuracy(truth: Values, predicted: Values) -> Interval:
    """Returns the accuracy with Wilson's score interval."""
    hits = truth == predicted
    wilson = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    return _interval(len(hits), hits.mean(), wilson.low, wilson.high)


def _mean_error(truth: Values, predicted: Values) -> Interval:
    """Returns the mean absolute error with the normal interval of a mean."""
    errors = np.abs(predicted - truth).astype(np.float64)
    # scipy.stats.sem would be NaN for a single face.
    value, margin = errors.mean(), 1.96 * errors.std() / len(errors) ** 0.5
    return _interval(len(errors), value, max(0.0, value - margin), value + margin)


def _interval(n: int, value: float, low: float, high: float) -> Interval:
    return {"n": n, "value": round(float(value), 5), "low": round(float(low), 5), "high": round(float(high), 5)}
