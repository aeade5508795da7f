"""Writes the model card from the record of the weights and the metrics that jobs.evaluate measured.

Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from collections.abc import Mapping
from typing import Any

from faceattr_udf.labels import CLASSES
from faceattr_udf.weights import WeightsRecord

SOURCES = {
    "utkface": ("UTKFace", "research use only", "portraits from the web, all ages, tight crops"),
    "aaf": ("All-Age-Faces", "research use only", "mostly East Asian faces, all ages, wide crops"),
    "fer2013": ("FER2013", "research use only", "48 px grayscale faces, tight crops; tested on the private test split"),
    "iog": ("Images of Groups", "research use only", "faces from photographs of groups; ages are ranges"),
    "muxspace": (
        "muxspace/facial_expressions",
        "Apache-2.0",
        "mostly grayscale press photographs; unverified labels",
    ),
}
"""Source -> name, terms and description."""

_TASKS = ("age", *CLASSES)
_COMMAND = "faceattr evaluate --faces faces-test.parquet --json scores.json --card MODEL_CARD.md"


def model_card(record: WeightsRecord, scores: Mapping[str, Any]) -> str:
    """Writes the card.

    Args:
        record: The record of the weights.
        scores: The JSON of jobs.evaluate for these weights.

    Returns:
        Markdown.
    """
    sections = (
        _head(record, scores),
        _model_details(record),
        _INTENDED_USE,
        _training_data(record, scores),
        _evaluation_data(scores),
        _METRICS,
        _quantitative_analyses(scores),
        _LIMITATIONS,
        _ETHICAL_CONSIDERATIONS,
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _head(record: WeightsRecord, scores: Mapping[str, Any]) -> str:
    return f"""
# Model card: {record.name}, version {record.version}

This card follows Mitchell et al. 2019, "Model Cards for Model Reporting". This command, which also writes all
metrics as JSON and draws the plots, generates it from the weights' record and {scores["overall"]["n"]:,} test faces in
the whole pipeline (decoding, detection, cropping, network):

    {_COMMAND}
"""


def _model_details(record: WeightsRecord) -> str:
    mirror = " and its mirror image" if record.mirrored else ""
    percent = 100 * record.margin / 2
    outputs = [f"{name} ({', '.join(CLASSES.get(name, ['years']))})" for name in record.classes]
    temperatures = ", ".join(f"{name} {value:.2f}" for name, value in record.temperatures.items())
    return f"""
## Model details

- Input: the crop of one face{mirror}, {record.input_size} px: the detector's box, enlarged by {percent:.0f} % of
  its size on each side.
- Output: calibrated probabilities of perceived {"; ".join(outputs)}.
- Network: `{record.architecture}`, {record.training["parameters"] / 1e6:.1f} million parameters.
- Normalization: {record.normalisation}.
- Calibration: one softmax temperature per attribute, chosen on validation faces: {temperatures}.
- License of the weights: {record.licence}.
"""


_INTENDED_USE = """
## Intended use

Statistics over large image collections, such as faces per age group and gender, and search and filtering of
photographs. The outputs are **perceived attributes, not truths**: what strangers who labeled photographs would most
likely say.

Not intended for:

- Decisions about a single person: access, hiring, credit, prices, policing, identity or age checks.
- Statements about who somebody is or what somebody feels.
"""


def _training_data(record: WeightsRecord, scores: Mapping[str, Any]) -> str:
    training = record.training
    lines = [
        "## Training data",
        "",
        "Training, validation and test faces are disjoint, also by person where the source identifies people.",
        "",
        "| source | content | terms |",
        "|---|---|---|",
    ]
    for source in scores["by_source"]:
        name, terms, content = SOURCES.get(source, (source, "unknown", "unknown"))
        lines.append(f"| {name} | {content} | {terms} |")
    lines += [
        "",
        f"`{training['command']}` trained the network on {training['faces']:,} faces in these stages:",
        "",
        *(f"{number}. {_stage(stage)}" for number, stage in enumerate(_stages(training), start=1)),
        "",
        f"`faceattr_udf/weights/{record.name}.json` records all settings and the training log; "
        "[conf/train/](conf/train/) explains the settings.",
    ]
    return "\n".join(lines)


def _stages(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Lists the training runs behind weights in order; runs of the emotion branch precede the run that merged it."""
    stages = _stages(training["initial"]) if "initial" in training else []
    if "emotion" in training:
        stages += [stage for stage in _stages(training["emotion"]) if _trains_emotion_branch(stage["settings"])]
    return [*stages, training]


def _trains_emotion_branch(settings: Mapping[str, Any]) -> bool:
    # Records of the shipped weights have flat settings and call the branch `tower` and the distillation `teaching`.
    return bool(settings.get("branch", settings.get("tower")) == "emotion")


def _stage(stage: Mapping[str, Any]) -> str:
    settings = stage["settings"]
    optim, distillation = settings.get("optim", settings), settings.get("distillation", settings)
    start = (settings.get("initial") or "random weights").rpartition("/")[2]
    branch = " of the emotion branch" if _trains_emotion_branch(settings) else ""
    parts = [
        f"{optim['epochs']:g} {'epoch' if optim['epochs'] == 1 else 'epochs'}{branch} from {start}",
        f"learning rate {optim['learning_rate']:g}",
        f"seed {settings['seed']}",
    ]
    if distillation.get("teachers"):
        weight = distillation.get("weight", distillation.get("teaching"))
        parts.append(f"{100 * weight:.0f} % of each loss by distillation from earlier weights")
    return ", ".join(parts) + "."


def _evaluation_data(scores: Mapping[str, Any]) -> str:
    lines = ["## Evaluation data", "", "| source | test faces | face detected in |", "|---|---|---|"]
    lines += [
        f"| {_source_name(source)} | {row['n']:,} | {_percent(row['detected'])} |"
        for source, row in scores["by_source"].items()
    ]
    lines += ["", "Where no face is detected, the whole image is used as the crop."]
    for attribute, labels in scores["unknown_labels"].items():
        listed = ", ".join(f"{label} ({count})" for label, count in labels.items())
        lines += ["", f"Counted as errors, because the model has no such {attribute}: {listed}."]
    return "\n".join(lines)


_METRICS = """
## Metrics

- Age: mean absolute error on exact ages; share of faces inside the labeled range where a source only has ranges; share
  of exact ages inside the predicted 80 % interval.
- Gender, ethnicity and emotion: accuracy, mean recall of the classes (balanced accuracy) and macro-F1.
- Calibration: expected calibration error (ECE; Naeini et al. 2015) in 15 bins of the confidence; for age over ten-year
  groups.
- Groups: mean age error and accuracy with 95 % confidence intervals (normal and Wilson's score interval).
"""


def _quantitative_analyses(scores: Mapping[str, Any]) -> str:
    parts = ("## Quantitative analyses", _by_source(scores), _by_class(scores["overall"]), _by_group(scores))
    return "\n\n".join(parts)


def _by_source(scores: Mapping[str, Any]) -> str:
    lines = [
        "### By source",
        "",
        "| source | age: mean error | in the labeled range | in the 80 % interval | gender | ethnicity (mean recall) "
        "| emotion (mean recall) |",
        "|---|---|---|---|---|---|---|",
    ]
    for source, row in {**scores["by_source"], "overall": scores["overall"]}.items():
        cells = [
            "" if row["age_mae"] is None else f"{row['age_mae']:.2f} years",
            _percent(row["age_in_range"]) if row["age_mae"] is None else "",
            _percent(row["age_coverage"]),
            _percent(row["gender_accuracy"]),
            _with_mean_recall(row, "ethnicity"),
            _with_mean_recall(row, "emotion"),
        ]
        lines.append(f"| {_source_name(source)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_class(overall: Mapping[str, Any]) -> str:
    lines = ["### By class", "", "| recall | |", "|---|---|"]
    for attribute in CLASSES:
        recall = overall[f"{attribute}_recall"] or {}
        lines.append(f"| {attribute} | {', '.join(f'{name} {_percent(value)}' for name, value in recall.items())} |")
    lines += ["", "| over all sources | " + " | ".join(_TASKS) + " |", "|---|" + "---|" * len(_TASKS)]
    for title, metric in (("ECE", "ece"), ("macro-F1", "macro_f1")):
        values = [overall.get(f"{task}_{metric}") for task in _TASKS]
        lines.append(f"| {title} | " + " | ".join("" if v is None else f"{v:.3f}" for v in values) + " |")
    return "\n".join(lines)


def _by_group(scores: Mapping[str, Any]) -> str:
    lines = ["### By group: for whom the model fails", ""]
    for task, groupings in scores["worst_group"].items():
        widest = max(groupings.values(), key=lambda row: row["gap"])
        low, high = (_value(task, widest[key]) for key in ("value", "best_value"))
        metric = "mean error" if task == "age" else "accuracy"
        lines.append(
            f"- **{task.capitalize()}** is worst for the group {widest['worst']}: {metric} {low}, "
            f"against {high} for {widest['best']}."
        )
    missing = [task for task in _TASKS if task not in scores["worst_group"]]
    if missing:
        lines.append(f"- Not compared between groups, because too few faces have both labels: {', '.join(missing)}.")
    lines += [
        "",
        "Groups of 30 or more faces by their labels; `by_group` in the JSON lists every group with its 95 % interval.",
        "",
        "| task | grouped by | worst group (faces) | its metric | best group | its metric | gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, groupings in scores["worst_group"].items():
        for grouping, row in groupings.items():
            low, high, gap = (_value(task, row[key]) for key in ("value", "best_value", "gap"))
            lines.append(
                f"| {task} | {grouping.replace('_', ' ')} | {row['worst']} ({row['n']}) | {low} "
                f"| {row['best']} | {high} | {gap} |"
            )
    return "\n".join(lines)


_LIMITATIONS = """
## Limitations

- Gender has two classes and ethnicity five because the labels do. People outside these classes have no class, and
  `others` combines people with little in common.
- Emotion is a facial expression, not a feeling, and annotators often disagree on it.
- Masks, hands and sunglasses hide the face; the model answers anyway.
- Small, blurred, dark or turned faces are missed or guessed. The column `quality` tells how well a face is visible;
  `attributes.min_face_px` and `attributes.min_confidence` make the model abstain.
- Errors differ between groups of people. Do not compare groups without correcting for the errors above.
"""

_ETHICAL_CONSIDERATIONS = """
## Ethical considerations

- Perceived demographics are sensitive data in most countries. Do not process photographs of people who were not
  informed, or without a lawful basis.
- The labels are the judgments of strangers and carry their prejudices.
- Most training sources allow research only. Have the terms above checked by a qualified person before commercial use.
"""


def _source_name(source: str) -> str:
    return SOURCES.get(source, (source,))[0]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _with_mean_recall(row: Mapping[str, Any], attribute: str) -> str:
    if row[f"{attribute}_accuracy"] is None:
        return ""
    return f"{_percent(row[f'{attribute}_accuracy'])} ({_percent(row[f'{attribute}_mean_recall'])})"


def _value(task: str, value: float) -> str:
    return f"{value:.1f} years" if task == "age" else _percent(value)
