"""Figures about people: shares of every attribute, and the age pyramid."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from faceattr_udf.labels import AGE_GROUPS, CLASSES
from faceattr_udf.report import charts, words
from faceattr_udf.report.blocks import Figure, Section, Table
from faceattr_udf.report.errors_by_group import error_figure
from faceattr_udf.report.inputs import ATTRIBUTES, ReportInputs, Row, Rows, Scope, number, of_model
from faceattr_udf.report.small_groups import hidden_cells

_TITLES: Final = {"age": "Age", "gender": "Gender", "ethnicity": "Ethnicity", "emotion": "Facial expression"}
_LABELS: Final = {"age_group": AGE_GROUPS, **CLASSES}
_POOR: Final = (
    "The photographs differ from those of the calibration (fit: poor), so the bold interval does not hold{instead}."
)
_NOTEWORTHY: Final = 0.001
"""A change that the page's digits show."""

_INTERVALS: Final = (
    "Bold lines are 95 % intervals for photographs like those of the calibration, thin lines also allow for "
    "photographs of another source."
)


@dataclass(frozen=True)
class Share:
    """One label's share.

    Attributes:
        label: The label.
        faces: Faces for which the model decides for it.
        counted: The share of these faces.
        corrected: The corrected share; None where nothing can be corrected.
        interval: Its 95 % interval.
        transfer: That which allows for photographs of another source.
        poor: Whether the photographs differ from those of the calibration.
    """

    label: str
    faces: int
    counted: float
    corrected: float | None
    interval: tuple[float, float] | None
    transfer: tuple[float, float] | None
    poor: bool

    @property
    def trusted(self) -> tuple[float, float] | None:
        """The interval to go by."""
        return self.transfer if self.poor and self.transfer else self.interval

    @property
    def best(self) -> float:
        """The corrected share, or the counted one."""
        return self.counted if self.corrected is None else self.corrected


def people(inputs: ReportInputs, scope: Scope, model: str | None) -> list[Section]:
    """Returns a section for each attribute."""
    return [] if inputs.shares is None else [_section(name, inputs, scope, model) for name in scope.attributes]


def _section(name: str, inputs: ReportInputs, scope: Scope, model: str | None) -> Section:
    section = Section(name, _TITLES[name])
    shares = shares_of(of_model(inputs.shares, model), ATTRIBUTES[name])
    if name == "age" and "gender" in scope.attributes and inputs.audience is not None:
        figure = _pyramid(shares, of_model(inputs.audience, model), scope, section.notes)
        section.figures.extend([figure] if figure else [])
    figure = _share_figure(name, shares, scope.min_count)
    if figure is not None:
        section.figures.append(figure)
    elif shares:
        section.notes.append(f"Shares are not shown: they would be of fewer than {scope.min_count} faces.")
    else:
        section.notes.append("Shares are not shown: no face here has this attribute.")
    errors = error_figure(name, scope, model)
    if isinstance(errors, str):
        section.notes.append(errors)
    else:
        section.figures.append(errors)
    return section


def shares_of(rows: Rows, attribute: str) -> list[Share]:
    """Returns the shares of an attribute, in the order of its labels; of own weights in that of the alphabet."""
    order = {label: index for index, label in enumerate(_LABELS[attribute])}
    chosen = [row for row in rows if row["attribute"] == attribute and number(row["raw_share"]) is not None]
    return [_share(row) for row in sorted(chosen, key=lambda row: (order.get(row["label"], len(order)), row["label"]))]


def _share(row: Row) -> Share:
    corrected = row["method"] != "none" and number(row["share"]) is not None
    return Share(
        label=row["label"],
        faces=round(row["raw_share"] * (number(row["n_faces"]) or 0)),
        counted=row["raw_share"],
        corrected=row["share"] if corrected else None,
        interval=_pair(row, "low", "high") if corrected else None,
        transfer=_pair(row, "low_transfer", "high_transfer") if corrected else None,
        poor=row["fit"] == "poor",
    )


def _pair(row: Row, low: str, high: str) -> tuple[float, float] | None:
    pair = number(row[low]), number(row[high])
    return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])


def _shown(shares: Sequence[Share], least: int) -> list[Share]:
    hidden = hidden_cells([share.faces for share in shares], least)
    return [share for index, share in enumerate(shares) if index not in hidden]


def _share_figure(name: str, shares: Sequence[Share], least: int) -> Figure | None:
    """Returns the figure of an attribute's shares; None where small groups leave nothing to show."""
    shown = _shown(shares, least)
    if not any(share.faces for share in shown):
        return None
    n_faces = sum(share.faces for share in shares)
    corrected = any(share.corrected is not None for share in shares)
    notes = [_INTERVALS] if corrected else ["Shares are counted: these weights have no statistics of their confusions."]
    if corrected and any(share.poor for share in shares):
        transfer = any(share.transfer for share in shares)
        instead = (
            "; the thin one does" if transfer else ", and how far photographs of another source move it is unknown"
        )
        notes.append(_POOR.format(instead=instead))
    if len(shown) < len(shares):
        few = words.count(len(shares) - len(shown), "label")
        notes.append(f"{few} not shown, because some have fewer than {least} faces.")
    rows = [
        {
            "name": words.label(share.label),
            "counted": share.counted,
            "corrected": share.corrected,
            "low": share.interval and share.interval[0],
            "high": share.interval and share.interval[1],
            "low_transfer": share.transfer and share.transfer[0],
            "high_transfer": share.transfer and share.transfer[1],
        }
        for share in shown
    ]
    finding = _share_finding(shown)
    title = f"Perceived shares of {words.count(n_faces, 'face')}"
    table = Table(
        ("label", "faces", "counted", "corrected", "95 % interval", "any source, 95 %"),
        tuple(
            (
                words.label(share.label),
                words.count(share.faces),
                words.percent(share.counted),
                words.percent(share.corrected),
                words.interval(*(share.interval or (None, None))),
                words.interval(*(share.transfer or (None, None))),
            )
            for share in shown
        ),
    )
    alternative = f"Dot plot of counted and corrected shares by label. {finding}"
    return Figure(f"share-{name}", title, finding, charts.shares(rows, alternative), table, tuple(notes))


def _share_finding(shown: Sequence[Share]) -> str:
    """Says which label is largest, how sure that is, and what the correction moves most."""
    ranked = sorted(shown, key=lambda share: -share.best)
    first = ranked[0]
    bounds = first.trusted
    sure = f" ({words.interval(*bounds)})" if bounds else ""
    finding = f"{words.label(first.label).capitalize()} is the largest shown share: {words.percent(first.best)}{sure}"
    if len(ranked) > 1:
        second = ranked[1]
        if bounds and second.trusted and second.trusted[1] >= bounds[0]:
            finding += f", and the interval of {words.label(second.label)} overlaps it"
    moved = max((share for share in shown if share.corrected is not None), key=_change, default=None)
    if moved is not None and _change(moved) >= _NOTEWORTHY:
        finding += (
            f"; correction moves {words.label(moved.label)} most, by {words.points(moved.best - moved.counted)} points"
        )
    return f"{finding}."


def _change(share: Share) -> float:
    return abs(share.best - share.counted)


def _pyramid(ages: Sequence[Share], audience: Rows, scope: Scope, notes: list[str]) -> Figure | None:
    """Returns the age pyramid: the share of every age group, divided by the genders counted in it."""
    sides = ("female", "male")
    cells: dict[str, Counter[str]] = {}
    for row in audience:
        if row["gender"] in sides:
            cells.setdefault(row["age_group"], Counter())[row["gender"]] += row["n_faces"]
    shown_ages = {share.label: share for share in _shown(ages, scope.min_count)}
    groups: list[str] = [label for label in AGE_GROUPS if label in shown_ages and label in cells]
    small = {group for group in groups if any(0 < faces < scope.min_count for faces in cells[group].values())}
    rest = sorted((cells[group].total(), group) for group in groups if group not in small)
    if len(small) == 1 and len(groups) == len(ages) and rest:
        small.add(rest[0][1])  # a single one would follow from the totals
    groups = [group for group in groups if group not in small]
    if not groups:
        if ages:
            notes.append(f"The age pyramid is not shown: too few of its cells have {scope.min_count} faces.")
        return None
    rows: list[dict[str, Any]] = []
    lines: list[tuple[str, ...]] = []
    for group in groups:
        age, total = shown_ages[group], cells[group].total()
        for side in sides:
            part = cells[group][side] / total
            low, high = (part * bound for bound in age.trusted) if age.trusted else (None, None)
            rows.append({"name": group, "side": side, "value": part * age.best, "low": low, "high": high})
        lines.append((group, *_pyramid_numbers(cells[group], rows[-2:])))
    finding = _pyramid_finding(rows, cells, groups)
    pictured = charts.pyramid(rows, sides, f"Age pyramid, {sides[0]} to the left, {sides[1]} to the right. {finding}")
    explained = [
        "A bar is the share of the age group, divided by the genders counted in it; a whisker is the group's 95 % "
        "interval, divided likewise, and has no error of gender."
    ]
    n_hidden = len({share.label for share in ages} - set(groups))
    if n_hidden:
        explained.append(
            f"{words.count(n_hidden, 'age group')} not shown: without a gender, or because some of their "
            f"cells have fewer than {scope.min_count} faces."
        )
    header = ("age", *(text for side in sides for text in (f"{side}, faces", side, "95 % interval")))
    return Figure("pyramid", "Ages by gender", finding, pictured, Table(header, tuple(lines)), tuple(explained))


def _pyramid_numbers(counts: Mapping[str, int], rows: Rows) -> tuple[str, ...]:
    return tuple(
        text
        for row in rows
        for text in (
            words.count(counts[row["side"]]),
            words.percent(row["value"]),
            words.interval(row["low"], row["high"]),
        )
    )


def _pyramid_finding(rows: Rows, cells: Mapping[str, Counter[str]], groups: Sequence[str]) -> str:
    largest = max(rows, key=lambda row: row["value"])
    most = max(groups, key=lambda group: max(cells[group].values()) / cells[group].total())
    side = max(cells[most], key=lambda name: cells[most][name])
    share = cells[most][side] / cells[most].total()
    finding = (
        f"The largest group is {largest['side']}, {largest['name']}, with {words.percent(largest['value'])} of faces"
    )
    if share - 0.5 >= _NOTEWORTHY:
        finding += f"; genders differ most in the group {most}, of which {words.percent(share)} were counted as {side}"
    return f"{finding}."
