"""Puts the page together: one HTML file that loads nothing, runs no script and works without a network."""

import base64
import hashlib
from datetime import datetime
from importlib import resources
from typing import Final

import jinja2
from markupsafe import Markup

from faceattr_udf.report import operations, people, photographs, words
from faceattr_udf.report.inputs import ReportInputs, Scope, chosen_model, newest_first, of_model
from faceattr_udf.sanitize import printable

_MADE_BY: Final = {
    "shares": "marts",
    "share_totals": "marts",
    "audience": "marts",
    "photographs": "marts",
    "coverage": "marts",
    "marts_state": "marts",
    "drift": "drift",
    "runs": "enrich",
}
"""Table -> the command that writes it."""


def render(inputs: ReportInputs, scope: Scope) -> str:
    """Returns the page.

    Args:
        inputs: Aggregated rows.
        scope: What the page is about, and what it may show.
    """
    model = chosen_model(inputs)
    sections = [
        photographs.photographs(inputs, scope, model),
        *people.people(inputs, scope, model),
        photographs.quality(inputs, scope, model),
        operations.runs(inputs),
        operations.drift(inputs, scope),
    ]
    style = _text("page.css")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_text("page.html"))
    return template.render(
        style=Markup(style),  # noqa: S704 - the package's own file
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        catalog=None if scope.catalog is None else words.label(scope.catalog),
        facts=_facts(inputs, scope, model),
        notes=_notes(inputs, scope, model),
        sections=[section for section in sections if section.figures or section.notes],
        attributes=", ".join(scope.attributes),
        min_count=scope.min_count,
    )


def _text(name: str) -> str:
    return (resources.files("faceattr_udf.report") / name).read_text(encoding="utf-8")


def _facts(inputs: ReportInputs, scope: Scope, model: str | None) -> list[tuple[str, str]]:
    """Returns the lines at the head of the page: what, value."""
    days = of_model(inputs.days, model)
    faces = sum(row["n_faces"] for row in of_model(inputs.totals, model))
    images = sum(row["n_images"] for row in inputs.coverage or ())
    facts = [("Images", words.count(images)), ("Faces", words.count(faces))]
    if scope.month:
        facts.append(("Month", scope.month))
    elif days and days[0]["first"]:
        first, last = days[0]["first"], days[0]["last"]
        facts.append(("Days", first if first == last else f"{first} to {last}"))
    if inputs.n_catalogs > 1 and scope.catalog is None:
        facts.append(("Catalogs", words.count(inputs.n_catalogs)))
    if model:
        facts.append(("Model", printable(model)))
    newest = newest_first(inputs.runs or ())
    if newest and newest[0]["purpose"]:
        facts.append(("Purpose", words.label(newest[0]["purpose"])))
    return [*facts, ("Made", f"{words.moment(scope.now)} UTC")]


def _notes(inputs: ReportInputs, scope: Scope, model: str | None) -> list[str]:
    """Returns sentences about what is not on the page."""
    notes = []
    for command in dict.fromkeys(_MADE_BY.values()):
        names = [name for name in inputs.missing if _MADE_BY.get(name) == command]
        if names:
            few = len(names) == 1
            tables = f"The table {names[0]} is" if few else f"The tables {', '.join(names)} are"
            they = "it" if few else "they"
            notes.append(f"{tables} missing, and so is what {they} would show here; run faceattr {command}.")
    others = sum(row["n_faces"] for row in inputs.totals or () if row["model_version"] != model)
    if others:
        notes.append(
            f"{words.count(others, 'face')} of other models are left out of attributes, sizes and crowds: versions of "
            "a model are never summed."
        )
    for row in of_model(inputs.days, model):
        for number, what in ((row["n_undated"], "without a date"), (row["n_future"], "with a date in the future")):
            if number:
                notes.append(f"{words.count(number, 'face')} {what} {'is' if number == 1 else 'are'} counted.")
    minors = sum(row["n_minors"] for row in of_model(inputs.totals, model))
    if "age" in scope.attributes and minors >= max(1, scope.min_count):
        notes.append(f"{words.count(minors, 'face')} may be of people under 18.")
    if not model and inputs.totals is not None:
        notes.append("There are no faces here.")
    if _is_stale(inputs):
        notes.append(
            f"The marts are of {words.moment(inputs.built_at)}, before the last run ended; run faceattr marts for "
            "the rest."
        )
    return notes


def _is_stale(inputs: ReportInputs) -> bool:
    ends = [
        _plain(run["finished_at"]) for run in inputs.runs or () if run["state"] == "completed" and run["n_inferred"]
    ]
    known = [end for end in ends if end is not None]
    built = _plain(inputs.built_at)
    return built is not None and bool(known) and built < max(known)


def _plain(time: datetime | None) -> datetime | None:
    """Returns a time without its zone: engines return UTC with or without it."""
    return None if time is None else time.replace(tzinfo=None)
