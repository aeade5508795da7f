"""`faceattr compare`: compares the attribute models on the same labeled faces."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import PATH, config_options
from faceattr_udf.cli.output_files import check_output_file

if TYPE_CHECKING:
    from faceattr_udf.attributes.predictor import AttributePredictor
    from faceattr_udf.weights import WeightsRecord

BATCH: Final = 64
ROUNDS: Final = 9
NOTE: Final = """
The pipeline that the reference systems follow reports 58 % on 120 photographs. That result cannot be compared with the
rows above: only the labels of those photographs are public. Their classes are ours, except that ages are five groups
and emotions four. The rows can be compared with each other: they use the same faces and the same path to the
prediction.
"""
COARSE_NOTE: Final = """
{models} cannot tell middle_eastern from latino_hispanic: the weights have one class others for both, whose probability
is shared equally between the two.
"""


@click.command("compare", cls=Command)
@click.option(
    "--faces",
    "faces_files",
    required=True,
    multiple=True,
    type=PATH,
    metavar="LABELED.parquet",
    help="The labeled faces; may be repeated.",
)
@click.option("--json", "json_file", required=True, type=PATH, metavar="OUT.json", help="Where the metrics go.")
@click.option("--weights", type=PATH, metavar="FOLDER", help="Weights to use instead of those in the package.")
@config_options
def command(
    faces_files: tuple[Path, ...],
    json_file: Path,
    weights: Path | None,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Compare the attribute models on the same labeled faces.

    Reports accuracy, size and speed. Times are per face with one thread and batches of 64, the median of several rounds
    in which the models take turns. Of the configuration only the section [detector] matters here.

    \b
    Examples:
      faceattr compare --faces faces-test.parquet --json compare.json
    """
    from faceattr_udf.config import Config
    from faceattr_udf.datasets.labeled_faces import load_faces, read_tables
    from faceattr_udf.evaluation.predict import predict_in_batches
    from faceattr_udf.evaluation.report import report

    detector = Config.load(config_file, overrides).detector
    check_output_file(json_file, "--json")
    table = read_tables(faces_files)
    predictors = _load(weights)
    milliseconds = _times(predictors)
    rows: dict[str, dict[str, Any]] = {}
    for model, predictor in predictors.items():
        record = predictor.record
        faces = load_faces(table, record.input_size, record.margin, grayscale=record.grayscale, detector=detector)
        scores = report(predict_in_batches(predictor, faces), faces)
        rows[model] = {
            "model_version": record.model_version,
            "parameters": record.training.get("parameters"),
            "milliseconds_per_face": milliseconds[model],
            "overall": scores["overall"],
            "by_source": scores["by_source"],
        }
    json_file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    click.echo(markdown_table(rows))
    click.echo(NOTE)
    coarse = [model for model, predictor in predictors.items() if _has_coarse_class(predictor.record)]
    if coarse:
        click.echo(COARSE_NOTE.lstrip().format(models=", ".join(coarse)))


def _has_coarse_class(record: "WeightsRecord") -> bool:
    from faceattr_udf.labels import OTHERS

    return OTHERS in record.classes.get("ethnicity", [])


def _load(folder: Path | None) -> dict[str, "AttributePredictor"]:
    """Loads every model that has weights in the folder or in the package, and names the others on stderr."""
    from faceattr_udf.attributes.predictor import load_predictor
    from faceattr_udf.config import AttributesConfig
    from faceattr_udf.models import MODELS
    from faceattr_udf.weights import is_shipped

    predictors: dict[str, AttributePredictor] = {}
    for model, spec in MODELS.items():
        own = folder is not None and (folder / f"{spec.weights}.json").exists()
        if own or is_shipped(spec.weights):
            settings = {"model": model, "weights": str(folder) if own else None}
            predictors[model] = load_predictor(AttributesConfig.model_validate(settings))
        else:
            click.echo(f"compare: {model} has no weights; faceattr train --config {model} trains them", err=True)
    return predictors


def _times(predictors: Mapping[str, "AttributePredictor"]) -> dict[str, float]:
    import numpy as np

    from faceattr_udf.benchmarks.timing import time_interleaved

    random = np.random.default_rng(0)
    contenders = {}
    for model, predictor in predictors.items():
        size = predictor.record.input_size
        faces = random.integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
        contenders[model] = partial(predictor.predict, faces)
    times = time_interleaved(contenders, ROUNDS, BATCH)
    return {model: times.milliseconds(model)["median"] for model in predictors}


def markdown_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a Markdown table with one row per model; metrics are over all sources that have the label."""
    lines = [
        "| model | age, mean error | gender | ethnicity | emotion | parameters | per face, one core |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, row in rows.items():
        overall = row["overall"]
        age = "" if overall["age_mae"] is None else f"{overall['age_mae']:.2f} years"
        classes = [overall[f"{name}_accuracy"] for name in ("gender", "ethnicity", "emotion")]
        cells = [age, *("" if value is None else f"{100 * value:.1f} %" for value in classes)]
        size = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:.1f} M"
        lines.append(f"| `{model}` | {' | '.join(cells)} | {size} | {row['milliseconds_per_face']:.2f} ms |")
    return "\n".join(lines)


main = entry_point(command)
