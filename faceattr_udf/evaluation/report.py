"""Evaluation report: metrics over all faces, per source and per demographic group, and the worst group of each task."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from fairlearn.metrics import MetricFrame

from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.evaluation.intervals import Interval, mean_interval, share_interval
from faceattr_udf.evaluation.metrics import Mask, Probabilities, age_group_of, expected_age, is_right, measure
from faceattr_udf.evaluation.sources import BALANCED_SOURCES
from faceattr_udf.labels import AGE_GROUPS, CLASSES, LABELS

MIN_GROUP_SIZE = 30
"""Groups with fewer labeled faces are listed but not compared: their metrics are mostly chance."""

CHILDREN, FROM_TEN_ON = AGE_GROUPS[0], "10+"
"""The age group of children, whose gender is hard to see, and all other ages together."""

DIMENSIONS = {"age_group": (*AGE_GROUPS, FROM_TEN_ON), "gender": LABELS["gender"], "ethnicity": LABELS["ethnicity"]}
"""What groups are formed by -> the values in their order."""

_ALL = "all"
_GROUPINGS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in DIMENSIONS},
    "combined": tuple(DIMENSIONS),
    "from_ten_on": tuple(DIMENSIONS),
}
"""Name of a grouping -> its dimensions. "from_ten_on" does not divide the ages from ten years on."""

_METRICS = {"age": "age_mae", **{attribute: f"{attribute}_accuracy" for attribute in CLASSES}}

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
        balanced_sources: source of `BALANCED_SOURCES` -> by_group and worst_group of its faces alone;
        unknown_labels: attribute -> labels that the model has no class for, with their counts;
        unreadable: image_id of the rows whose image cannot be decoded.
    """
    groups = by_group(probabilities, faces)
    balanced = {}
    for source in BALANCED_SOURCES:
        index = np.flatnonzero(faces.source == source)
        if len(index):
            rows = by_group({name: values[index] for name, values in probabilities.items()}, faces.take(index))
            balanced[source] = {"by_group": rows, "worst_group": worst_groups(rows)}
    return {
        "overall": measure(probabilities, faces, np.ones(len(faces), dtype=bool)),
        "by_source": {
            str(source): measure(probabilities, faces, faces.source == source) for source in np.unique(faces.source)
        },
        "by_group": groups,
        "worst_group": worst_groups(groups),
        "balanced_sources": balanced,
        "unknown_labels": {attribute: values for attribute, values in faces.unknown_labels.items() if values},
        "unreadable": list(faces.unreadable),
    }


def by_group(probabilities: Probabilities, faces: LabeledFaces) -> list[dict[str, Any]]:
    """Scores each age group, gender and ethnicity, alone and combined, and gender and ethnicity from ten years on.

    Returns:
        One row per group that has faces: age_group, gender, ethnicity ("all" where the group is not limited to one
        value; the age group "10+" is ten years and more), n (faces in the group), and for each task None or its metric
        with a 95 % interval: n (faces with this label), value, low, high.
    """
    labels = {name: _label_names(faces, name) for name in ("gender", "ethnicity")}
    ages = {"combined": age_group_of(faces), "from_ten_on": np.where(faces.age_range[:, 0] >= 10, FROM_TEN_ON, "")}
    tasks = {name: _task(name, probabilities, faces) for name in _METRICS if name in probabilities}
    rows = []
    for grouping, dimensions in _GROUPINGS.items():
        groups = pd.DataFrame({"age_group": ages.get(grouping, ages["combined"]), **labels})
        rows += _rows(list(dimensions), groups, tasks)
    order = {name: [_ALL, *values] for name, values in DIMENSIONS.items()}
    return sorted(rows, key=lambda row: [values.index(row[name]) for name, values in order.items()])


def worst_groups(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Finds the groups for which the model is worst.

    Args:
        groups: Rows of `by_group`.

    Returns:
        Task -> grouping ("age_group", "gender", "ethnicity", "combined" or "from_ten_on") -> the worst group of
        `MIN_GROUP_SIZE` faces or more, its n and value, the best group and its value, and the gap between both values.
    """
    worst: dict[str, dict[str, Any]] = {}
    for task, metric in _METRICS.items():
        for grouping in _GROUPINGS:
            rows = [
                row
                for row in groups
                if grouping_of(row) == grouping and row[metric] and row[metric]["n"] >= MIN_GROUP_SIZE
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


def grouping_of(row: Mapping[str, Any]) -> str:
    """Returns the grouping of a row of `by_group`; see `worst_groups`."""
    dimensions = dimensions_of(row)
    if len(dimensions) == 1:
        return dimensions[0]
    return "from_ten_on" if row["age_group"] == FROM_TEN_ON else "combined"


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
        return _Task(faces.age_range[:, 0], expected_age(probabilities["age"]), faces.has_exact_age(), _age_error)
    labeled = faces.labeled(name) | faces.unknown[name]
    return _Task(faces.labels[name], probabilities[name].argmax(axis=1), labeled, _accuracy(name))


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
    return np.array([*LABELS[attribute], ""], dtype=np.str_)[faces.labels[attribute]]


def _accuracy(attribute: str) -> Callable[[Values, Values], Interval]:
    def score(truth: Values, predicted: Values) -> Interval:
        return share_interval(is_right(attribute, np.asarray(predicted), np.asarray(truth)))

    return score


def _age_error(truth: Values, predicted: Values) -> Interval:
    return mean_interval(np.abs(predicted - truth))
