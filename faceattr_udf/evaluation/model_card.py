"""The model card, written from the record of the weights and the figures that jobs.evaluate measured."""

from collections.abc import Mapping
from typing import Any

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.weights import WeightsRecord

SOURCES = {
    "utkface": ("UTKFace", "research use only", "portraits found on the web, all ages, cut tightly"),
    "aaf": ("All-Age-Faces", "research use only", "mostly East Asian faces, all ages, cut widely"),
    "fer2013": ("FER2013", "research use only", "48 px grey faces, cut without margin; private test"),
    "iog": ("Images of Groups", "research use only", "faces from photographs of groups; ages are ranges"),
    "muxspace": ("muxspace/facial_expressions", "Apache-2.0", "mostly grey press photographs; labels unchecked"),
}

_TASKS = ("age", *CLASSES)
_COMMAND = "python -m jobs.evaluate --faces faces-test.parquet --json scores.json --card MODEL_CARD.md"


def model_card(record: WeightsRecord, scores: Mapping[str, Any]) -> str:
    """Writes the card.

    Args:
        record: Of the weights.
        scores: The JSON of jobs.evaluate.

    Returns:
        Markdown.
    """
    sections = (
        _head(record, scores),
        _training(record),
        _sources(scores),
        _figures(scores),
        _failures(scores),
        _USES,
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _head(record: WeightsRecord, scores: Mapping[str, Any]) -> str:
    return f"""
# Model card: {record.name}, version {record.version}

From the pixels of one face, cut {100 * record.margin / 2:.0f} % wider than the detector's box on each side and resized
to {record.input_size} px,{" and from their mirror image," if record.mirrored else ""}
the network gives perceived {_listed(record.classes)} as calibrated probabilities. They are
**perceived attributes, not truths**: what strangers who labelled photographs would most likely say.

This card is generated. The command, which measures {scores["overall"]["n"]:,} faces on the product's whole path
(photograph, detection, cut, network) and writes the figures, the pictures and this file:

    {_COMMAND}
"""


def _training(record: WeightsRecord) -> str:
    training = record.training
    lines = [
        "## How it was trained",
        "",
        f"- Network: `{record.architecture}`, {training['parameters'] / 1e6:.1f} million parameters; "
        f"{record.normalisation}.",
        f"- {training['faces']:,} faces, by `{training['command']}`, in the stages below. Settings and figures of the "
        f"log are in `faceattr_udf/weights/{record.name}.json`, the reasons in [conf/train/](conf/train/).",
    ]
    lines += [f"  {number}. {_stage(stage)}" for number, stage in enumerate(_stages(training), start=1)]
    temperatures = ", ".join(f"{name} {value:.2f}" for name, value in record.temperatures.items())
    lines += [
        f"- Calibrated on the validation faces by one temperature per attribute: {temperatures}.",
        f"- Terms of the weights: {record.licence}.",
    ]
    return "\n".join(lines)


def _stages(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The runs behind weights, the first one first; those of a tower for emotion before the run that took it over."""
    stages = _stages(training["initial"]) if "initial" in training else []
    if "emotion" in training:
        stages += [stage for stage in _stages(training["emotion"]) if stage["settings"].get("tower") == "emotion"]
    return [*stages, training]


def _stage(stage: Mapping[str, Any]) -> str:
    settings = stage["settings"]
    origin = settings.get("initial") or "random weights"
    tower = " of the tower for emotion" if settings.get("tower") == "emotion" else ""
    parts = [
        f"{settings['epochs']:g} {'pass' if settings['epochs'] == 1 else 'passes'}{tower} "
        f"from {origin.rpartition('/')[2]}",
        f"learning rate {settings['learning_rate']:g}",
        f"seed {settings['seed']}",
    ]
    if settings.get("teachers"):
        parts.append(f"{100 * settings['teaching']:.0f} % of each loss from what earlier weights said of each face")
    return ", ".join(parts) + "."


def _sources(scores: Mapping[str, Any]) -> str:
    lines = [
        "## What it learned from and is measured on",
        "",
        "Training, validation and test faces are disjoint, also by person where people are known.",
        "",
        "| source | what | terms | test faces | a face was found in |",
        "|---|---|---|---|---|",
    ]
    for source, row in scores["by_source"].items():
        name, terms, what = SOURCES.get(source, (source, "unknown", "unknown"))
        lines.append(f"| {name} | {what} | {terms} | {row['n']:,} | {_percent(row['detected'])} |")
    lines += ["", "Where no face was found, the whole image was taken for the face."]
    return "\n".join(lines)


def _figures(scores: Mapping[str, Any]) -> str:
    lines = [
        "## How accurate it is",
        "",
        "| source | age: mean error | inside its range | in the 80 % interval | gender | ethnicity (mean of classes) "
        "| emotion (mean of classes) |",
        "|---|---|---|---|---|---|---|",
    ]
    for source, row in {**scores["by_source"], "overall": scores["overall"]}.items():
        cells = [
            "" if row["age_mae"] is None else f"{row['age_mae']:.2f} years",
            _percent(row["age_in_range"]) if row["age_mae"] is None else "",
            _percent(row["age_coverage"]),
            _percent(row["gender_accuracy"]),
            _with_mean(row, "ethnicity"),
            _with_mean(row, "emotion"),
        ]
        lines.append(f"| {SOURCES.get(source, (source,))[0]} | {' | '.join(cells)} |")
    lines += [
        "",
        "Calibration error (ECE, fifteen bins; age by its ten-year groups) and macro-F1, over all sources:",
        "",
    ]
    overall = scores["overall"]
    lines += ["| | " + " | ".join(_TASKS) + " |", "|---|" + "---|" * len(_TASKS)]
    for title, figure in (("ECE", "ece"), ("macro-F1", "macro_f1")):
        values = [overall.get(f"{task}_{figure}") for task in _TASKS]
        lines.append(f"| {title} | " + " | ".join("" if v is None else f"{v:.3f}" for v in values) + " |")
    lines += ["", "Share of each class that is found:", "", "| | |", "|---|---|"]
    for attribute in CLASSES:
        recall = overall[f"{attribute}_recall"] or {}
        lines.append(f"| {attribute} | {', '.join(f'{name} {_percent(value)}' for name, value in recall.items())} |")
    for attribute, labels in scores["unknown_labels"].items():
        listed = ", ".join(f"{label} ({count})" for label, count in labels.items())
        lines += ["", f"Counted as errors, since the model has no such {attribute}: {listed}."]
    return "\n".join(lines)


def _failures(scores: Mapping[str, Any]) -> str:
    lines = [
        "## Whom it fails",
        "",
        "Groups by their labels, of 30 faces or more; `by_group` in the JSON has every group with its 95 % interval.",
        "",
        "| task | groups by | worst | its figure | best | its figure | gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, kinds in scores["worst_group"].items():
        for kind, row in kinds.items():
            low, high, gap = (_value(task, row[key]) for key in ("value", "best_value", "gap"))
            lines.append(
                f"| {task} | {kind.replace('_', ' ')} | {row['worst']} ({row['n']}) | {low} | {row['best']} | {high} "
                f"| {gap} |"
            )
    return "\n".join(lines)


_USES = """
## What it is not for

- Deciding about a single person: access, hiring, credit, prices, policing, identity or age checks.
- Saying what somebody is or feels. Gender here has two values and ethnicity five because the labels do; people who are
  neither have no class, and an expression is not an emotion.
- Comparing groups of people without correcting for the different errors above.
- Photographs of people who were not told, or without a lawful basis: these are sensitive data in most countries.
- Commercial products, before the terms of the sources above were checked by somebody who can: most are for research.
"""


def _listed(names: Mapping[str, Any]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _with_mean(row: Mapping[str, Any], attribute: str) -> str:
    if row[f"{attribute}_accuracy"] is None:
        return ""
    return f"{_percent(row[f'{attribute}_accuracy'])} ({_percent(row[f'{attribute}_mean_recall'])})"


def _value(task: str, value: float) -> str:
    return f"{value:.1f} years" if task == "age" else _percent(value)
