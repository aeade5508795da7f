"""Measures an attribute model on labelled faces, each image going the product's own way: cascade, largest face, cut.

    python -m jobs.evaluate --faces LABELLED.parquet --json OUT.json

Columns: image_id, image, source, age, age_min, age_max, gender, ethnicity, emotion; a row has the labels it has. Where
the cascade finds no face the whole image is taken for the face, and `detected` says how often it did find one. A row
whose image cannot be read is listed and not scored. Pictures of the figures go into the folder OUT-plots.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.command_line import configured_parser
from faceattr_udf.config import Config
from faceattr_udf.datasets.labelled_faces import load_faces, read_table
from faceattr_udf.errors import FaceattrError
from faceattr_udf.evaluation.model_card import model_card
from faceattr_udf.evaluation.plots import draw_all
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.evaluation.report import report
from faceattr_udf.inference.base import unscheduled_device

COLUMNS = ("n", "detected", "age_mae", "age_in_range", "gender_accuracy", "ethnicity_accuracy", "emotion_accuracy")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when configuration, weights or data are wrong."""
    parser = configured_parser("evaluate", __doc__)
    parser.add_argument("--faces", type=Path, required=True, metavar="LABELLED.parquet")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT.json")
    parser.add_argument("--card", type=Path, metavar="MODEL_CARD.md", help="also write the model card of these figures")
    arguments = parser.parse_args(argv)
    try:
        config = Config.load(arguments.config, arguments.overrides)
        predictor = load_predictor(config.attributes, 2, unscheduled_device(config.runtime.device))
        record = predictor.record
        table = read_table(arguments.faces)
        faces = load_faces(
            table, record.input_size, record.margin, grayscale=record.grayscale, detector=config.detector
        )
    except FaceattrError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    probabilities = predict_in_batches(predictor, faces)
    scores = {"model_version": record.model_version, **report(probabilities, faces)}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    plots = draw_all(probabilities, faces, scores, arguments.json.with_name(f"{arguments.json.stem}-plots"))
    if arguments.card:
        arguments.card.write_text(model_card(record, scores), encoding="utf-8")
    print(_table(scores))
    print(f"\n{arguments.json} and {len(plots)} pictures beside it")
    return 0


def _table(scores: dict[str, Any]) -> str:
    rows = {"overall": scores["overall"], **scores["by_source"]}
    lines = [f"{'source':<10}" + "".join(f"{column:>20}" for column in COLUMNS)]
    for source, row in rows.items():
        cells = ["" if row[column] is None else f"{row[column]:.4g}" for column in COLUMNS]
        lines.append(f"{source:<10}" + "".join(f"{cell:>20}" for cell in cells))
    for attribute, labels in scores["unknown_labels"].items():
        listed = ", ".join(f"{label} ({count})" for label, count in labels.items())
        lines.append(f"counted as errors, since the model has no such {attribute}: {listed}")
    if scores["unreadable"]:
        lines.append(f"not scored, since the image cannot be read: {', '.join(scores['unreadable'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
