"""Trains an attribute model: labelled faces in, weights with their record out.

    python -m jobs.train --config conf/train/default.toml --data FOLDER --output FOLDER

FOLDER of the data holds faces-train, faces-val and faces-test.parquet. The test split is looked at once, at the end.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from faceattr_udf.attributes.predictor import GraphPredictor
from faceattr_udf.errors import FaceattrError
from faceattr_udf.evaluation.faces import load_faces, read_table
from faceattr_udf.evaluation.metrics import report
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.networks.mobilenet import INPUT_SIZE
from faceattr_udf.training.augment import ROOM, source_margin
from faceattr_udf.training.calibrate import temperatures
from faceattr_udf.training.checkpoint import save_weights
from faceattr_udf.training.loop import predict, train
from faceattr_udf.training.settings import TrainingSettings
from faceattr_udf.training.systems import start


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when configuration or data are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("conf/train/default.toml"))
    parser.add_argument("--set", action="append", default=[], metavar="train.key=value", dest="overrides")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the four weights files and train.jsonl")
    parser.add_argument("--cache", type=Path, help="folder that keeps the cut faces between runs")
    arguments = parser.parse_args(argv)
    try:
        settings = TrainingSettings.load(arguments.config, arguments.overrides)
        measured = _train(settings, arguments.data, arguments.output, arguments.cache)
    except FaceattrError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    print(json.dumps(measured, indent=2))
    return 0


def _train(settings: TrainingSettings, data: Path, output: Path, cache: Path | None) -> dict[str, Any]:
    tables = {split: _limited(read_table(data / f"faces-{split}.parquet"), settings.limit) for split in SPLITS}
    output.mkdir(parents=True, exist_ok=True)
    log_file = output / f"{settings.name}.train.jsonl"

    def log(figures: dict[str, Any]) -> None:
        line = json.dumps(figures)
        print(line, file=sys.stderr, flush=True)
        with log_file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def cut(split: str, size: int, margin: float) -> Any:  # noqa: ANN401
        return load_faces(tables[split], size, margin, cache=cache / f"{split}-{size}" if cache else None)

    faces = cut("train", round(INPUT_SIZE * ROOM), source_margin(settings.margin))
    validation, test = (cut(split, INPUT_SIZE, settings.margin) for split in ("val", "test"))
    network, objective = start(settings, faces)
    checkpoint = output / f"{settings.name}.checkpoint.pt"
    network = train(
        network, objective, INPUT_SIZE, faces, settings, log, validation=validation, checkpoint=checkpoint
    )
    calibrated = temperatures(predict(network, validation), validation)
    training = {
        "command": "python -m jobs.train",
        "settings": settings.model_dump(mode="json"),
        "faces": len(faces),
        "log": _thinned(log_file),
    }

    def save(measured: dict[str, Any]) -> None:
        save_weights(
            network,
            output,
            settings.name,
            margin=settings.margin,
            temperatures=calibrated,
            training=training,
            measured=measured,
        )

    # What is measured is what ships: the exported graph.
    save({})
    predictor = GraphPredictor(settings.name, output, threads=2)
    measured = {
        "val": report(predict_in_batches(predictor, validation), validation),
        "test": report(predict_in_batches(predictor, test), test),
    }
    save(measured)
    return measured


SPLITS = ("train", "val", "test")

_LOG_LINES = 24


def _thinned(log_file: Path) -> list[dict[str, Any]]:
    """Some steps of the log, evenly spaced, the last among them: what the record keeps."""
    lines = [json.loads(line) for line in log_file.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "step" in line]
    stride = max(1, len(steps) // _LOG_LINES)
    return [{k: v for k, v in line.items() if k != "faces_per_s"} for line in steps[::-1][::stride][::-1]]


def _limited(table: pa.Table, limit: int) -> pa.Table:
    return table.slice(0, limit) if limit else table


if __name__ == "__main__":
    raise SystemExit(main())
