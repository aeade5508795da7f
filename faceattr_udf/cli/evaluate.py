"""`faceattr evaluate`: measures an attribute model on labeled faces."""

import json
from pathlib import Path
from typing import Any, Final

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import PATH, config_options
from faceattr_udf.cli.text_table import text_table

COLUMNS: Final = (
    "n",
    "detected",
    "age_mae",
    "age_in_range",
    "gender_accuracy",
    "ethnicity_accuracy",
    "emotion_accuracy",
)


@click.command("evaluate", cls=Command)
@click.option("--faces", "faces_file", required=True, type=PATH, metavar="LABELED.parquet", help="The labeled faces.")
@click.option("--json", "json_file", required=True, type=PATH, metavar="OUT.json", help="Where the metrics go.")
@click.option("--card", type=PATH, metavar="MODEL_CARD.md", help="Also write the model card with these metrics.")
@config_options
def command(
    faces_file: Path, json_file: Path, card: Path | None, config_file: str | None, overrides: tuple[str, ...]
) -> None:
    """Measure a model on labeled faces.

    Each image takes the product's whole path: detection, crop of the largest face, prediction. Where no face is
    detected, the whole image is the crop, and the metric `detected` counts it.

    Columns of the Parquet file: image_id, image, source, age, age_min, age_max, gender, ethnicity, emotion. A row may
    lack labels. Rows whose image cannot be read are listed and not scored. Plots go to the folder OUT-plots.

    \b
    Examples:
      faceattr evaluate --faces faces-test.parquet --json scores.json
      faceattr evaluate --faces faces-test.parquet --json scores.json --set attributes.model=separate_grey
    """
    from faceattr_udf.attributes.predictor import load_predictor
    from faceattr_udf.config import Config
    from faceattr_udf.datasets.labeled_faces import load_faces, read_table
    from faceattr_udf.evaluation.model_card import model_card
    from faceattr_udf.evaluation.plots import draw_all
    from faceattr_udf.evaluation.predict import predict_in_batches
    from faceattr_udf.evaluation.report import report
    from faceattr_udf.inference.base import local_device

    config = Config.load(config_file, overrides)
    predictor = load_predictor(config.attributes, 2, local_device(config.runtime.device))
    record = predictor.record
    table = read_table(faces_file)
    faces = load_faces(table, record.input_size, record.margin, grayscale=record.grayscale, detector=config.detector)
    probabilities = predict_in_batches(predictor, faces)
    scores = {"model_version": record.model_version, **report(probabilities, faces)}
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    plots = draw_all(probabilities, faces, scores, json_file.with_name(f"{json_file.stem}-plots"))
    if card:
        card.write_text(model_card(record, scores), encoding="utf-8")
    click.echo(_summary(scores))
    click.echo(f"\n{json_file} and {len(plots)} plots beside it")


def _summary(scores: dict[str, Any]) -> str:
    rows = {"overall": scores["overall"], **scores["by_source"]}
    cells = [
        (source, *("" if row[column] is None else f"{row[column]:.4g}" for column in COLUMNS))
        for source, row in rows.items()
    ]
    lines = [text_table(("source", *COLUMNS), cells)]
    for attribute, labels in scores["unknown_labels"].items():
        listed = ", ".join(f"{label} ({count})" for label, count in labels.items())
        lines.append(f"counted as errors, because the model has no such {attribute}: {listed}")
    if scores["unreadable"]:
        lines.append(f"not scored, because the image cannot be read: {', '.join(scores['unreadable'])}")
    return "\n".join(lines)


main = entry_point(command)
