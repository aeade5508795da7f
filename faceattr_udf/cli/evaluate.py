"""`faceattr evaluate`: measures an attribute model on labeled faces."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.id_file import read_ids
from faceattr_udf.cli.options import PATH, config_options
from faceattr_udf.cli.output_files import check_output_file
from faceattr_udf.cli.text_table import text_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from faceattr_udf.attributes.predictor import AttributePredictor
    from faceattr_udf.config import Config
    from faceattr_udf.datasets.labeled_faces import LabeledFaces
    from faceattr_udf.evaluation.metrics import Probabilities

COLUMNS: Final = (
    "n",
    "detected",
    "age_mae",
    "age_in_range",
    "gender_accuracy",
    "ethnicity_accuracy",
    "emotion_accuracy",
)
SMALL_FACE_PX: Final = 32
"""Width of the faces with which the model card tells how small faces do, pixels."""


@click.command("evaluate", cls=Command)
@click.option(
    "--faces",
    "faces_files",
    required=True,
    multiple=True,
    type=PATH,
    metavar="LABELED.parquet",
    help="Labeled faces of sources like those in training; may be repeated.",
)
@click.option(
    "--unseen",
    "unseen_files",
    multiple=True,
    type=PATH,
    metavar="LABELED.parquet",
    help="Labeled faces of sources that no training, choice or calibration used, measured apart; may be repeated.",
)
@click.option("--json", "json_file", required=True, type=PATH, metavar="OUT.json", help="Where the metrics go.")
@click.option("--card", type=PATH, metavar="MODEL_CARD.md", help="Also write the model card with these metrics.")
@click.option(
    "--face-px",
    type=click.IntRange(min=8),
    metavar="PIXELS",
    help="Shrink every image until its face has this width before it takes the path; not with --card.",
)
@click.option(
    "--leave-out",
    "leave_out_files",
    multiple=True,
    type=PATH,
    metavar="IDS.txt",
    help="Leave out the faces with these image_ids, one per line; may be repeated.",
)
@click.option(
    "--quantify",
    "quantify_file",
    type=PATH,
    metavar="NAME.quantify.json",
    help="Also write what `faceattr marts` needs to correct shares of these weights, from the faces of --faces.",
)
@click.option(
    "--shares",
    "shares_file",
    type=PATH,
    metavar="OUT.json",
    help="Also measure corrected shares on many mixes of these faces.",
)
@config_options
def command(
    faces_files: tuple[Path, ...],
    unseen_files: tuple[Path, ...],
    json_file: Path,
    card: Path | None,
    face_px: int | None,
    leave_out_files: tuple[Path, ...],
    quantify_file: Path | None,
    shares_file: Path | None,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Measure a model on labeled faces.

    Each image takes the product's whole path: detection, crop of the largest face, prediction. Where no face is
    detected, the whole image is the crop, and the metric `detected` counts it.

    Columns of the Parquet files: image_id, image, source, age, age_min, age_max, gender, ethnicity, emotion. A row may
    lack labels. Rows whose image cannot be read are listed and not scored. Plots go to the folder OUT-plots.

    With --card, faces of the source fairface are also measured at a width of 32 pixels.

    \b
    Examples:
      faceattr evaluate --faces faces-test.parquet --json scores.json
      faceattr evaluate --faces faces-test.parquet --unseen unseen.parquet --json scores.json --card MODEL_CARD.md
      faceattr evaluate --faces faces-test.parquet --json scores.json --set attributes.model=separate_grey
      faceattr evaluate --faces faces-test.parquet --json scores.json --shares shares.json
    """
    if card and face_px is not None:
        msg = "--face-px cannot be used with --card, which measures images as they are; leave one of them out"
        raise click.UsageError(msg)
    from faceattr_udf.attributes.predictor import load_predictor
    from faceattr_udf.cli.share_reports import without_ids, write_proof, write_statistics
    from faceattr_udf.config import Config
    from faceattr_udf.datasets.labeled_faces import read_tables
    from faceattr_udf.evaluation.model_card import model_card
    from faceattr_udf.evaluation.plots import draw_all
    from faceattr_udf.inference.base import local_device

    config = Config.load(config_file, overrides)
    check_output_file(json_file, "--json")
    for option, file in (("--card", card), ("--quantify", quantify_file), ("--shares", shares_file)):
        if file is not None:
            check_output_file(file, option)
    left_out = {one for file in leave_out_files for one in read_ids(file, "--leave-out")}
    predictor = load_predictor(config.attributes, 2, local_device(config.runtime.device))
    given = (("faces", faces_files), ("unseen", unseen_files))
    tables = {name: without_ids(read_tables(files), left_out) for name, files in given if files}
    _check_apart(tables)
    measured = {name: _measure(table, predictor, config, face_px) for name, table in tables.items()}
    scores: dict[str, Any] = {
        "model_version": predictor.record.model_version,
        "files": {"faces": [file.name for file in faces_files], "unseen": [file.name for file in unseen_files]},
        "face_px": face_px,
        **measured["faces"][0],
        "unseen": measured["unseen"][0] if unseen_files else None,
    }
    if card:
        scores["small_faces"] = _small_faces(tables["faces"], predictor, config)
    json_file.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    folder = json_file.with_name(f"{json_file.stem}-plots")
    plots = sum(
        len(draw_all(probabilities, faces, world, folder if name == "faces" else folder / name))
        for name, (world, faces, probabilities) in measured.items()
    )
    if card:
        card.write_text(model_card(predictor.record, scores), encoding="utf-8")
    click.echo(_summary(scores))
    if unseen_files:
        click.echo(f"\nunseen sources\n{_summary(scores['unseen'])}")
    click.echo(f"\n{json_file} and {plots} plots beside it")
    predicted = {name: (probabilities, faces) for name, (_, faces, probabilities) in measured.items()}
    if quantify_file is not None:
        write_statistics(quantify_file, predictor.record, *predicted["faces"])
    if shares_file is not None:
        write_proof(shares_file, predictor.record, predicted)


def _check_apart(tables: "Mapping[str, pa.Table]") -> None:
    from faceattr_udf.errors import SchemaError

    sources = [{str(source) for source in table["source"].unique().to_pylist()} for table in tables.values()]
    if both := sorted(set.intersection(*sources)) if len(sources) > 1 else []:
        msg = f"--unseen has faces of {', '.join(both)}, as --faces has; a source is either like training or unseen"
        raise SchemaError(msg)


def _measure(
    table: "pa.Table", predictor: "AttributePredictor", config: "Config", face_px: int | None
) -> "tuple[dict[str, Any], LabeledFaces, Probabilities]":
    from faceattr_udf.evaluation.abstention import abstention
    from faceattr_udf.evaluation.minors import minors
    from faceattr_udf.evaluation.predict import predict_in_batches
    from faceattr_udf.evaluation.report import report

    faces = _load(table, predictor, config, face_px)
    probabilities = predict_in_batches(predictor, faces)
    min_confidence = config.attributes.min_confidence.model_dump()
    scores = {
        **report(probabilities, faces),
        "abstention": abstention(probabilities, faces, min_confidence),
        "minors": minors(probabilities, faces, config.minors.age, config.minors.probability),
    }
    return scores, faces, probabilities


def _small_faces(table: "pa.Table", predictor: "AttributePredictor", config: "Config") -> dict[str, Any] | None:
    """Measures the balanced sources with small faces; None if the table has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from faceattr_udf.evaluation.predict import predict_in_batches
    from faceattr_udf.evaluation.report import report
    from faceattr_udf.evaluation.sources import BALANCED_SOURCES

    sources = pa.array(BALANCED_SOURCES, type=table.schema.field("source").type)
    chosen = table.filter(pc.is_in(table["source"], value_set=sources))
    if len(chosen) == 0:
        return None
    faces = _load(chosen, predictor, config, SMALL_FACE_PX)
    scores = report(predict_in_batches(predictor, faces), faces)
    return {"face_px": SMALL_FACE_PX, "by_source": scores["by_source"]}


def _load(table: "pa.Table", predictor: "AttributePredictor", config: "Config", face_px: int | None) -> "LabeledFaces":
    from faceattr_udf.datasets.labeled_faces import load_faces

    record = predictor.record
    return load_faces(
        table,
        record.input_size,
        record.margin,
        grayscale=record.grayscale,
        detector=config.detector,
        face_px=face_px,
    )


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
