"""Trains an attribute model: labelled faces in, weights with their record out.

    python -m jobs.train --config conf/train/NAME.toml --data FOLDER --output FOLDER

FOLDER of the data holds faces-train, faces-val and faces-test.parquet. The test split is looked at once, at the end.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from faceattr_udf.errors import FaceattrError
from faceattr_udf.training.run import run
from faceattr_udf.training.settings import TrainingSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when configuration or data are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("conf/train/default.toml"))
    parser.add_argument("--set", action="append", default=[], metavar="train.key=value", dest="overrides")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the weights files and train.jsonl")
    parser.add_argument("--cache", type=Path, help="folder that keeps the cut faces between runs")
    arguments = parser.parse_args(argv)
    try:
        settings = TrainingSettings.load(arguments.config, arguments.overrides)
        record = run(settings, arguments.data, arguments.output, _tell, arguments.cache)
    except FaceattrError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"model_version": record.model_version, **record.measured["test"]["overall"]}, indent=2))
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
