"""Figures about runs and drift."""

from collections import defaultdict
from statistics import median
from typing import Final

from faceattr_udf.report import charts, words
from faceattr_udf.report.blocks import Figure, Section, Table
from faceattr_udf.report.inputs import ReportInputs, Row, Rows, Scope, newest_first, number

_SHOWN: Final = 30
"""Runs and nights in a figure."""

_CHANGES: Final = 10
"""Values of a night in a figure."""

_OF_ATTRIBUTES: Final = ("share", "confidence_of_label", "confidence", "abstention")
"""Metrics of drift whose label begins with an attribute."""


def runs(inputs: ReportInputs) -> Section:
    """Returns the section about runs."""
    section = Section("runs", "Runs")
    latest = newest_first(inputs.runs or ())[:_SHOWN]
    for run in latest:
        if run["state"] == "running":
            section.notes.append(
                f"The run that started at {words.moment(run['started_at'])} is going on, or was killed: what it adds "
                "is not on this page."
            )
    if inputs.runs is not None and not latest:
        section.notes.append("There are no runs yet.")
    completed = [run for run in latest if run["state"] == "completed" and number(run["images_per_second"]) is not None]
    if completed:
        section.figures.append(_throughput(completed[::-1], latest))
    return section


def _throughput(completed: Rows, latest: Rows) -> Figure:
    last, rates = completed[-1], [run["images_per_second"] for run in completed]
    finding = (
        f"The last completed run gave {words.count(last['n_images'], 'image')} a result, "
        f"{last['images_per_second']:.1f} per second"
    )
    if len(completed) > 1:
        usual = median(rates[:-1])
        if usual:
            change = last["images_per_second"] / usual - 1
            finding += (
                f", {words.percent(abs(change), 0)} {'more' if change >= 0 else 'less'} than the median before it"
            )
    rows = [
        {"name": f"{words.moment(run['started_at'])} {index}", "value": rate, "marked": False}
        for index, (run, rate) in enumerate(zip(completed, rates, strict=True))
    ]
    lines = []
    for run in latest:
        rate = number(run["images_per_second"])
        lines.append(
            (
                words.moment(run["started_at"]),
                str(run["state"]),
                words.count(run["n_images"] or 0),
                words.count(run["n_faces"] or 0),
                words.count(run["n_inferred"] or 0),
                f"{rate:.1f}" if rate is not None and run["state"] != "running" else "",
            )
        )
    header = ("started, UTC", "state", "images", "faces", "inferred", "images per second")
    notes = ("Only images whose content is new are inferred; the rate counts every image that got a result.",)
    picture = charts.columns(rows, "images per second", f"Column chart of the latest runs. {finding}.")
    return Figure("throughput", "Throughput", f"{finding}.", picture, Table(header, tuple(lines)), notes)


def drift(inputs: ReportInputs, scope: Scope) -> Section:
    """Returns the section about drift."""
    section = Section("drift", "Drift")
    by_run: dict[str, list[Row]] = defaultdict(list)
    for row in inputs.drift or ():
        by_run[row["run_id"]].append(row)
    known = [rows for rows in by_run.values() if any(row["metric"] == "night" for row in rows)]
    nights = sorted(known, key=lambda rows: rows[0]["started_at"])[-_SHOWN:]
    if inputs.drift is not None and not nights:
        section.notes.append("No night has been judged yet.")
    if nights:
        section.figures.append(_nights([_listed(rows, scope) for rows in nights]))
        changes = _changes(_listed(nights[-1], scope))
        section.figures.extend([changes] if changes else [])
    return section


def _listed(rows: Rows, scope: Scope) -> list[Row]:
    """Returns the rows of a night about attributes that the configuration lists, and about photographs."""
    return [row for row in rows if _may_be_shown(row, scope)]


def _may_be_shown(row: Row, scope: Scope) -> bool:
    if row["metric"] == "age":
        return "age" in scope.attributes
    return row["metric"] not in _OF_ATTRIBUTES or scope.lists(row["label"].partition("/")[0])


def _own(rows: Rows) -> Row:
    return next(row for row in rows if row["metric"] == "night")


def _alarms(rows: Rows) -> list[Row]:
    return [row for row in rows if row["alarm"] and row["metric"] != "night"]


def _name(row: Row) -> str:
    return words.label(f"{row['metric']} {row['label']}".rstrip())


def _nights(nights: list[list[Row]]) -> Figure:
    last = _own(nights[-1])
    alarmed = sum(bool(_alarms(rows)) for rows in nights)
    if last["reason"]:
        finding = f"The last night was not judged: {last['reason']}"
    elif _alarms(nights[-1]):
        moved = max(_alarms(nights[-1]), key=lambda row: abs(number(row["t"]) or 0.0))
        change = f"{number(moved['change']) or 0.0:+.3g}".replace("-", words.MINUS)
        finding = f"The last night has drifted ({last['kind']}): {_name(moved)} changed by {change}"
    else:
        finding = "The last night is like those before it"
    finding += f"; {words.count(alarmed)} of the last {words.count(len(nights), 'night')} drifted."
    rows = [
        {
            "name": f"{words.moment(_own(night)['started_at'])} {index}",
            "value": len(_alarms(night)),
            "marked": bool(_alarms(night)),
        }
        for index, night in enumerate(nights)
    ]
    lines = tuple(
        (
            words.moment(_own(night)["started_at"]),
            words.count(_own(night)["value"] or 0),
            words.count(len(_alarms(night))),
            "accepted" if _own(night)["accepted"] else str(_own(night)["kind"] or _own(night)["reason"] or "none"),
        )
        for night in reversed(nights)
    )
    table = Table(("started, UTC", "faces", "values that drifted", "kind"), lines)
    picture = charts.columns(
        rows, "values that drifted", f"Column chart of nights. {finding}", "drifted" if alarmed else None
    )
    return Figure("nights", "Nights that differ from those before", finding, picture, table)


def _changes(rows: Rows) -> Figure | None:
    """Returns the figure of the values of the last night that moved most; None where none was judged."""
    judged = [row for row in rows if row["metric"] != "night" and number(row["t"]) is not None]
    shown = sorted(judged, key=lambda row: -abs(row["t"]))[:_CHANGES]
    if not shown:
        return None
    first = shown[0]
    finding = (
        f"{_name(first).capitalize()} changed most in relation to the nights' own scatter: {abs(first['t']):.1f} "
        f"times, from {first['reference']:.3g} to {first['value']:.3g}."
    )
    pictured = [{"name": _name(row), "value": abs(row["t"]), "text": f"{abs(row['t']):.1f}"} for row in shown]
    lines = tuple(
        (
            _name(row),
            f"{row['reference']:.3g}",
            f"{row['value']:.3g}",
            f"{row['change']:+.3g}".replace("-", words.MINUS),
            f"{abs(row['t']):.1f}",
            f"{row['threshold']:.1f}" if number(row["threshold"]) is not None else "",
            "yes" if row["alarm"] else "no",
        )
        for row in shown
    )
    header = ("value", "before", "last night", "change", "times the scatter", "alarm from", "drifted")
    picture = charts.bars(pictured, "change, in units of the nights' scatter", f"Bar chart. {finding}")
    return Figure("changes", "What changed in the last night", finding, picture, Table(header, lines))
