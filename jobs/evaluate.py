"""Measures an attribute model on labelled faces, each image going the product's own way: cascade, largest face, cut.

    python -m jobs.evaluate --faces LABELLED.parquet --json OUT.json

Columns: image_id, image, source, age, age_min, age_max, gender, ethnicity, emotion; a row has the labels it has. Where
the cascade finds no face the whole image is taken for the face, and `detected` says how often it did find one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.config import Config
from faceattr_udf.errors import FaceattrError
from faceattr_udf.evaluation.faces import load_faces, read_table
from faceattr_udf.evaluation.metrics import report
from faceattr_udf.evaluation.predict import predict_in_batches

COLUMNS = ("n", "detected", "age_mae", "age_in_range", "gender_accuracy", "ethnicity_accuracy", "emotion_accuracy")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when configuration, weights or data are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, metavar="LABELLED.parquet")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT.json")
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    arguments = parser.parse_args(argv)
    try:
        config = Config.load(arguments.config, arguments.overrides)
        predictor = load_predictor(config.attributes, threads=2)
        record = predictor.record
        table = read_table(arguments.faces)
        faces = load_faces(table, record.input_size, record.margin, detector=config.detector)
    except FaceattrError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    scores = {"model_version": record.model_version, **report(predict_in_batches(predictor, faces), faces)}
    arguments.json.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    print(_table(scores))
    return 0


def _table(scores: dict[str, Any]) -> str:
    rows = {"overall": scores["overall"], **scores["by_source"]}
    lines = [f"{'source':<10}" + "".join(f"{column:>20}" for column in COLUMNS)]
    for source, row in rows.items():
        cells = ["" if row[column] is None else f"{row[column]:.4g}" for column in COLUMNS]
        lines.append(f"{source:<10}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
