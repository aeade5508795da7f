"""The quantitative analyses of the model card: tables of the metrics that `faceattr evaluate` measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from faceattr_udf.evaluation.abstention import THRESHOLDS
from faceattr_udf.evaluation.minors import BANDS
from faceattr_udf.evaluation.minors import THRESHOLDS as MINOR_THRESHOLDS
from faceattr_udf.evaluation.report import CHILDREN, grouping_of, label_of
from faceattr_udf.evaluation.sources import source_name
from faceattr_udf.labels import ATTRIBUTES, CLASSES

Row = Mapping[str, Any]

LIKE_TRAINING, UNSEEN = "sources like those in training", "unseen sources"

_SHOWN_THRESHOLDS = tuple(t for t in THRESHOLDS if t >= 0.5)
_MIN_LISTED, _LISTED = 10, 5
"""Fewest faces of a group by age, gender and ethnicity in the list of the worst, and the length of that list."""


def quantitative_analyses(scores: Row) -> str:
    """Writes the section with all tables that the metrics allow.

    Args:
        scores: The JSON of `faceattr evaluate`. Metrics that an older version did not measure have no table.

    Returns:
        Markdown.
    """
    parts = [
        "## Quantitative analyses",
        _both_worlds(scores),
        *(_by_source(title, world) for title, world in _worlds(scores)),
        _calibration(scores),
        *(_by_class(title, world["overall"]) for title, world in _worlds(scores)),
        _small_faces(scores),
        _abstention(scores),
        _minors(scores),
        _balanced_groups(scores),
        _worst_groups(scores),
    ]
    return "\n\n".join(part for part in parts if part)


def _worlds(scores: Row) -> Iterator[tuple[str, Row]]:
    yield LIKE_TRAINING, scores
    if scores.get("unseen"):
        yield UNSEEN, scores["unseen"]


def _both_worlds(scores: Row) -> str:
    worlds = dict(_worlds(scores))
    if len(worlds) == 1:
        return ""
    rows: dict[str, Callable[[Row], str]] = {
        "faces": lambda row: f"{row['n']:,}",
        "face detected in": lambda row: percent(row["detected"]),
        "age: mean error": lambda row: _with_interval(row, "age_mae"),
        "age: inside the 80 % interval": lambda row: _with_interval(row, "age_coverage"),
        **{f"{name}: accuracy": partial(_with_interval, metric=f"{name}_accuracy") for name in CLASSES},
        **{f"{name}: ECE": partial(_error, attribute=name) for name in ATTRIBUTES},
    }
    text = """### Sources like those in training, and unseen sources

The first column has test faces of data sets whose other faces trained the model. No face of the unseen sources
trained, chose or calibrated it: expect their metrics on photographs of your own. The columns hold different faces, so
part of the difference is how hard the faces are and how well they are labeled.

"""
    cells = [(title, *(cell(world["overall"]) for world in worlds.values())) for title, cell in rows.items()]
    return text + markdown_table(("", *worlds), cells)


def _by_source(title: str, world: Row) -> str:
    rows, recalls = [], []
    for source, row in {**world["by_source"], "overall": world["overall"]}.items():
        cells = [
            _with_interval(row, "age_mae"),
            _with_interval(row, "age_in_range") if row["age_mae"] is None else "",
            _with_interval(row, "age_coverage"),
            *(_with_interval(row, f"{name}_accuracy") for name in CLASSES),
        ]
        rows.append((source_name(source), *cells))
        keys = ("ethnicity_mean_recall", "ethnicity_coarse_mean_recall", "emotion_mean_recall")
        values = [percent(row.get(key)) for key in keys]
        if any(values):
            recalls.append((source_name(source), *values))
    header = ("source", "age: mean error", "in the labeled range", "in the 80 % interval", *CLASSES)
    text = f"### By source: {title}\n\n" + markdown_table(header, rows)
    if recalls:
        header = ("mean recall", "ethnicity, the classes", "ethnicity, five classes", "emotion")
        text += "\n\n" + markdown_table(header, recalls)
    return text


def _calibration(scores: Row) -> str:
    rows: list[tuple[str, ...]] = []
    errors: dict[str, dict[str, float]] = {name: {} for name in ATTRIBUTES}
    for title, world in _worlds(scores):
        for source, row in world["by_source"].items():
            name = f"{source_name(source)} (unseen)" if title == UNSEEN else source_name(source)
            rows.append((name, *(_error(row, attribute) for attribute in ATTRIBUTES)))
            for attribute, found in errors.items():
                if row.get(f"{attribute}_ece") is not None:
                    found[name] = row[f"{attribute}_ece"]
        rows.append((f"all {title}", *(_error(world["overall"], attribute) for attribute in ATTRIBUTES)))
    lines = [
        f"- {attribute}: worst for {worst}, {found[worst]:.3f}"
        for attribute, found in errors.items()
        if found and (worst := max(found, key=found.__getitem__))
    ]
    text = "### Expected calibration error by source\n\n" + markdown_table(("source", *ATTRIBUTES), rows)
    return text + ("\n\n" + "\n".join(lines) if lines else "")


def _by_class(title: str, overall: Row) -> str:
    rows = [
        (attribute, ", ".join(f"{name} {percent(value)}" for name, value in recall.items()))
        for attribute in CLASSES
        if (recall := overall[f"{attribute}_recall"])
    ]
    if not rows:
        return ""
    factors = [_decimals(overall[f"{attribute}_macro_f1"]) for attribute in CLASSES]
    return (
        f"### By class: {title}\n\n"
        + markdown_table(("recall", ""), rows)
        + "\n\n"
        + markdown_table(("over these sources", *CLASSES), [("macro-F1", *factors)])
    )


def _small_faces(scores: Row) -> str:
    small = scores.get("small_faces")
    if not small:
        return ""
    rows = []
    for source, row in small["by_source"].items():
        for size, metrics in (("as they are", scores["by_source"][source]), (f"{small['face_px']} px", row)):
            cells = [_with_interval(metrics, "age_in_range" if metrics["age_mae"] is None else "age_mae")]
            cells += [_with_interval(metrics, f"{name}_accuracy") for name in CLASSES]
            rows.append((source_name(source), size, percent(metrics["detected"]), *cells))
    header = ("source", "width of the faces", "face detected in", "age: in the labeled range, or error", *CLASSES)
    return (
        "### Small faces\n\n"
        f"Every image was shrunk until its face was {small['face_px']} px wide, and took the whole pipeline again.\n\n"
        + markdown_table(header, rows)
    )


def _abstention(scores: Row) -> str:
    answers, curves = [], []
    for title, world in _worlds(scores):
        for attribute, rows in world.get("abstention", {}).items():
            for source, row in rows["by_source"].items():
                accuracy = _interval(row["accuracy"], percent) if row["accuracy"] else ""
                name = f"{source_name(source)} (unseen)" if title == UNSEEN else source_name(source)
                everything = percent(row["curve"][0]["accuracy"])
                answers.append(
                    (attribute, name, everything, f"{row['min_confidence']:g}", percent(row["answered"]), accuracy)
                )
            points = {point["threshold"]: point for point in rows["overall"]["curve"]}
            cells = [
                f"{percent(points[t]['accuracy'])} ({percent(points[t]['coverage'])})"
                if points[t]["accuracy"] is not None
                else ""
                for t in _SHOWN_THRESHOLDS
            ]
            curves.append((attribute, title, *cells))
    if not answers:
        return ""
    header = ("attribute", "source", "accuracy of all", "`min_confidence`", "answered", "accuracy of the answers")
    return (
        "### Abstention\n\n"
        "The model answers from the confidence `attributes.min_confidence` on. As configured:\n\n"
        + markdown_table(header, answers)
        + "\n\nAt other confidences, accuracy of the answers (share of faces answered):\n\n"
        + markdown_table(("attribute", "", *(f"{t:g}" for t in _SHOWN_THRESHOLDS)), curves)
    )


def _minors(scores: Row) -> str:
    worlds = [(title, found) for title, world in _worlds(scores) if (found := world.get("minors"))]
    if not worlds:
        return ""
    rows, curves = [], []
    for title, found in worlds:
        parts = [(f"all {title}", found["overall"])]
        unseen = " (unseen)" if title == UNSEEN else ""
        parts += [(source_name(source) + unseen, bands) for source, bands in found["by_source"].items()]
        for name, bands in parts:
            shares = (f"{_interval(bands[b], percent)}, n = {bands[b]['n']:,}" if b in bands else "" for b in BANDS)
            rows.append((name, *shares))
        for band, row in found["overall"].items():
            curves.append((band, title, *(percent(row["at"][f"{at:g}"]) for at in MINOR_THRESHOLDS)))
    age, probability = worlds[0][1]["age"], worlds[0][1]["probability"]
    return (
        "### Minors: who is protected, and whom it costs\n\n"
        f"Share of faces that count as a minor's with `minors.age = {age}` and `minors.probability = {probability:g}`, "
        "by labeled age. Of\npeople under 18 it is the share protected, of adults the share that loses its attributes."
        "\n\n"
        + markdown_table(("source", *BANDS), rows)
        + "\n\nAt other values of `minors.probability`:\n\n"
        + markdown_table(("labeled age", "", *(f"{at:g}" for at in MINOR_THRESHOLDS)), curves)
    )


def _balanced_groups(scores: Row) -> str:
    parts = []
    for source, groups in scores.get("balanced_sources", {}).items():
        rows = [row for row in groups["by_group"] if grouping_of(row) == "from_ten_on" or label_of(row) == CHILDREN]
        by_age = [
            row
            for row in groups["by_group"]
            if grouping_of(row) == "combined" and row["gender_accuracy"] and row["gender_accuracy"]["n"] >= _MIN_LISTED
        ]
        by_age.sort(key=lambda row: row["gender_accuracy"]["high"])
        parts.append(
            f"### Whom it fails: {source_name(source)}\n\n"
            "Groups are best compared in this source, which has about as many faces of every ethnicity and gender. "
            "From ten years on\n(10+) by gender and ethnicity, and children below ten apart, the worst first:\n\n"
            + _group_table(sorted(rows, key=_gender_accuracy))
        )
        if by_age:
            parts.append(
                f"Also by age, the groups of {_MIN_LISTED} or more faces whose interval for gender ends lowest:\n\n"
                + _group_table(by_age[:_LISTED])
            )
    return "\n\n".join(parts)


def _gender_accuracy(row: Row) -> float:
    return float(row["gender_accuracy"]["value"]) if row["gender_accuracy"] else 1.0


def _group_table(rows: list[Row]) -> str:
    metrics = ("gender_accuracy", "ethnicity_accuracy")
    cells = [
        (
            label_of(row),
            f"{row['n']:,}",
            *(_interval(row[metric], percent) if row[metric] else "" for metric in metrics),
        )
        for row in rows
    ]
    return markdown_table(("group", "faces", "gender: accuracy", "ethnicity: accuracy"), cells)


def _worst_groups(scores: Row) -> str:
    lines = ["### By group: for whom the model fails", ""]
    for task, groupings in scores["worst_group"].items():
        widest = max(groupings.values(), key=lambda row: row["gap"])
        low, high = (_value(task, widest[key]) for key in ("value", "best_value"))
        metric = "mean error" if task == "age" else "accuracy"
        lines.append(
            f"- **{task.capitalize()}** is worst for the group {widest['worst']}: {metric} {low}, "
            f"against {high} for {widest['best']}."
        )
    missing = [task for task in ATTRIBUTES if task not in scores["worst_group"]]
    if missing:
        lines.append(f"- Not compared between groups, because too few faces have both labels: {', '.join(missing)}.")
    lines += [
        "",
        f"Groups of 30 or more faces by their labels, over all {LIKE_TRAINING}; `by_group` in the JSON lists every",
        "group with its 95 % interval.",
        "",
    ]
    rows = []
    for task, groupings in scores["worst_group"].items():
        for grouping, row in groupings.items():
            low, high, gap = (_value(task, row[key]) for key in ("value", "best_value", "gap"))
            name = grouping.replace("_", " ")
            rows.append((task, name, f"{row['worst']} ({row['n']})", low, row["best"], high, gap))
    header = ("task", "grouped by", "worst group (faces)", "its metric", "best group", "its metric", "gap")
    return "\n".join(lines) + "\n" + markdown_table(header, rows)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table; rows have as many cells as the header.

    >>> print(markdown_table(("source", "faces"), [("FairFace", "12")]))
    | source | faces |
    |---|---|
    | FairFace | 12 |
    """
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def percent(value: float | None) -> str:
    """Returns a share in percent, or nothing for None.

    >>> percent(0.5), percent(None)
    ('50.0 %', '')
    """
    return "" if value is None else f"{100 * value:.1f} %"


def _with_interval(row: Row, metric: str) -> str:
    value, interval = row[metric], row.get(f"{metric}_interval")
    if value is None:
        return ""
    show = _years if metric == "age_mae" else percent
    return show(value) if interval is None else _interval(interval, show)


def _interval(interval: Row, show: Callable[[float], str]) -> str:
    low, high = (show(interval[end]).rpartition(" ")[0] for end in ("low", "high"))
    return f"{show(interval['value'])} ({low} to {high})"


def _error(row: Row, attribute: str) -> str:
    return _decimals(row.get(f"{attribute}_ece"))


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _years(value: float) -> str:
    return f"{value:.2f} years"


def _value(task: str, value: float) -> str:
    return f"{value:.1f} years" if task == "age" else percent(value)
