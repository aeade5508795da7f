"""Writes the model card from the record of the weights and the metrics that `faceattr evaluate` measured.

Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from faceattr_udf.evaluation.card_tables import LIKE_TRAINING, UNSEEN, markdown_table, percent, quantitative_analyses
from faceattr_udf.evaluation.sources import SOURCES, Source, source_name
from faceattr_udf.labels import OTHERS
from faceattr_udf.weights import WeightsRecord


def model_card(record: WeightsRecord, scores: Mapping[str, Any]) -> str:
    """Writes the card.

    Args:
        record: The record of the weights.
        scores: The JSON of `faceattr evaluate` for these weights.

    Returns:
        Markdown.
    """
    sections = (
        _head(record, scores),
        _model_details(record),
        _INTENDED_USE,
        _training_data(record, scores),
        _evaluation_data(record, scores),
        _METRICS,
        quantitative_analyses(scores),
        _limitations(record),
        _ETHICAL_CONSIDERATIONS,
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _head(record: WeightsRecord, scores: Mapping[str, Any]) -> str:
    faces = scores["overall"]["n"] + (scores["unseen"]["overall"]["n"] if scores.get("unseen") else 0)
    files = scores.get("files", {"faces": ["faces-test.parquet"]})
    options = [f"--{option} {name}" for option, names in files.items() for name in names]
    return f"""
# Model card: {record.name}, version {record.version}

This card follows Mitchell et al. 2019, "Model Cards for Model Reporting". This command, which also writes all
metrics as JSON and draws the plots, generates it from the weights' record and {faces:,} test faces in
the whole pipeline (decoding, detection, cropping, network):

    faceattr evaluate {" ".join(options)} --json scores.json --card MODEL_CARD.md
"""


def _model_details(record: WeightsRecord) -> str:
    mirror = " and its mirror image" if record.mirrored else ""
    percent = 100 * record.margin / 2
    outputs = [
        f"{name} ({'years' if name == 'age' else ', '.join(classes)})" for name, classes in record.classes.items()
    ]
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
        _source_table(_training_sources(record, scores)),
        "",
        f"`{training['command']}` trained the network on {training['faces']:,} faces in these stages:",
        "",
        *(f"{number}. {_stage(stage)}" for number, stage in enumerate(_stages(training), start=1)),
        "",
        f"`faceattr_udf/weights/{record.name}.json` records all settings and the training log; "
        "[conf/train/](conf/train/) explains the settings.",
    ]
    return "\n".join(lines)


def _training_sources(record: WeightsRecord, scores: Mapping[str, Any]) -> list[str]:
    """Lists the known sources that the record names, and test sources that are not known."""
    unknown = [source for source in scores["by_source"] if source not in SOURCES]
    return sorted([source for source in SOURCES if _trained_on(record, source)] + unknown)


def _trained_on(record: WeightsRecord, source: str) -> bool:
    return any(text.startswith(SOURCES[source].name) for text in record.training_data)


def _source_table(sources: Iterable[str]) -> str:
    described = [SOURCES.get(source, Source(source, "unknown", "unknown")) for source in sources]
    return markdown_table(("source", "content", "terms"), [(d.name, d.content, d.terms) for d in described])


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


def _evaluation_data(record: WeightsRecord, scores: Mapping[str, Any]) -> str:
    worlds = {LIKE_TRAINING: scores}
    if scores.get("unseen"):
        worlds[UNSEEN] = scores["unseen"]
    rows = [
        (source_name(source), title, f"{row['n']:,}", percent(row["detected"]))
        for title, world in worlds.items()
        for source, row in world["by_source"].items()
    ]
    lines = [
        "## Evaluation data",
        "",
        markdown_table(("source", "one of the", "test faces", "face detected in"), rows),
        "",
        "Where no face is detected, the whole image is used as the crop.",
    ]
    if UNSEEN in worlds:
        lines += [
            "",
            "The unseen sources served no training, choice or calibration:",
            "",
            _source_table(worlds[UNSEEN]["by_source"]),
        ]
    others = [source for source in scores["by_source"] if source in SOURCES and not _trained_on(record, source)]
    if others:
        listed = ", ".join(source_name(source) for source in others)
        lines += ["", f"The record of the weights does not name these sources as training data: {listed}."]
    for world in worlds.values():
        for attribute, labels in world["unknown_labels"].items():
            listed = ", ".join(f"{label} ({count})" for label, count in labels.items())
            lines += ["", f"Counted as errors, because the model has no such {attribute}: {listed}."]
    return "\n".join(lines)


_METRICS = """
## Metrics

- Age: mean absolute error on exact ages; share of faces inside the labeled range where a source only has ranges; share
  of exact ages inside the predicted 80 % interval.
- Gender, ethnicity and emotion: accuracy, mean recall of the classes that a source labels (balanced accuracy) and
  macro-F1. Where a source labels an ethnicity only as `others`, both `middle_eastern` and `latino_hispanic` count as
  right; mean recall and macro-F1 of the classes leave such faces out. "Five classes" joins the two to `others` in
  labels and predictions, so that sources with and without them can be compared.
- Calibration: expected calibration error (ECE; Naeini et al. 2015) in 15 bins of the confidence; for age over ten-year
  groups.
- In parentheses: 95 % confidence intervals, normal for the age error and Wilson's score interval for shares.
"""


def _limitations(record: WeightsRecord) -> str:
    earlier = OTHERS in record.classes.get("ethnicity", ())
    return _LIMITATIONS.format(others=_ONE_CLASS_OTHERS if earlier else _LABEL_OTHERS)


_LABEL_OTHERS = """\
Many training faces are labeled only `others`, which is Middle Eastern or Latino and Hispanic: what tells these two
  apart comes from fewer faces. Where a test source says only `others`, either of the two counts as right."""

_ONE_CLASS_OTHERS = """\
These weights have one class `others` in place of `middle_eastern` and `latino_hispanic` and cannot tell them apart:
  its probability is shared equally. Where a test source says only `others`, either of the two counts as right."""

_LIMITATIONS = """
## Limitations

- Gender has two classes and ethnicity six because the labels do. People outside these classes have no class.
- {others}
- Photographs unlike those of the training sources get more errors than the test faces of these sources, and confidences
  that are too high: compare the two tables by source.
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
