"""Compares the attribute models on the same labelled faces: accuracy, size and speed, each on the product's own way.

    python -m jobs.compare --faces faces-test.parquet --json compare.json

Times are of one thread, 64 faces together, the median of several rounds in which the models take turns.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceattr_udf.attributes.predictor import MODELS, AttributePredictor, load_predictor
from faceattr_udf.config import AttributesConfig
from faceattr_udf.datasets.labelled_faces import load_faces, read_table
from faceattr_udf.errors import FaceattrError
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.evaluation.report import report
from faceattr_udf.weights import is_shipped

BATCH = 64
ROUNDS = 9
PUBLISHED = """
The published method reports 58 % on 120 photographs. That figure and the rows above cannot be compared: of those
photographs only the labels are to be had, and their classes are others (age in five groups, Hispanic and Arab apart).
What can be compared is the rows with each other: the same faces, the same way from photograph to prediction.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when weights or data are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, metavar="LABELLED.parquet")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT.json")
    parser.add_argument(
        "--weights", type=Path, metavar="FOLDER", help="of weights that the package lacks, or that go before it"
    )
    arguments = parser.parse_args(argv)
    try:
        table = read_table(arguments.faces)
        predictors = _load(arguments.weights)
    except FaceattrError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    milliseconds = _times(predictors)
    rows: dict[str, dict[str, Any]] = {}
    for model, predictor in predictors.items():
        record = predictor.record
        faces = load_faces(table, record.input_size, record.margin, grayscale=record.grayscale)
        scores = report(predict_in_batches(predictor, faces), faces)
        rows[model] = {
            "model_version": record.model_version,
            "parameters": record.training.get("parameters"),
            "milliseconds_per_face": milliseconds[model],
            "overall": scores["overall"],
            "by_source": scores["by_source"],
        }
    arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table_of(rows))
    print(PUBLISHED)
    return 0


def _load(folder: Path | None) -> dict[str, AttributePredictor]:
    """Every model whose weights are in the folder or in the package; the others are named on stderr."""
    predictors = {}
    for model, (name, _) in MODELS.items():
        own = folder is not None and (folder / f"{name}.json").exists()
        if own or is_shipped(name):
            settings = {"model": model, "weights": str(folder) if own else None}
            predictors[model] = load_predictor(AttributesConfig.model_validate(settings))
        else:
            print(f"compare: no weights of {model}; conf/train/{model}.toml makes them", file=sys.stderr)
    return predictors


def _times(predictors: Mapping[str, AttributePredictor]) -> dict[str, float]:
    random = np.random.default_rng(0)
    sizes = {model: predictor.record.input_size for model, predictor in predictors.items()}
    faces = {m: random.integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8) for m, size in sizes.items()}
    seconds: dict[str, list[float]] = {model: [] for model in predictors}
    for _ in range(ROUNDS + 1):  # the first warms up
        for model, predictor in predictors.items():
            started = time.perf_counter()
            predictor.predict(faces[model])
            seconds[model].append(time.perf_counter() - started)
    return {model: round(1000 * statistics.median(values[1:]) / BATCH, 3) for model, values in seconds.items()}


def table_of(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: one row per model, figures over all sources that have the label."""
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


if __name__ == "__main__":
    raise SystemExit(main())
