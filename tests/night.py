"""A night in a process of its own: two ingestions, two runs, and maintenance; prints what the runs did.

python tests/night.py FOLDER key=value ...
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fakes
import pyspark
from pyspark import cloudpickle

from faceattr_udf.config import Config
from faceattr_udf.spark import enrich, ingest, maintain, start

PHOTOS = {f"{number}.jpg": f"{number % 3}|{number}".encode() for number in range(6)}


def night(folder: Path, place: str, overrides: list[str]) -> dict[str, object]:
    """Returns the version of Spark, and what the runs did."""
    cloudpickle.register_pickle_by_value(fakes)  # the workers cannot import the tests' modules
    config = Config.load(None, overrides)
    spark = start(config)
    photos, images, output = folder / "photos", f"{place}/images", f"{place}/out"
    photos.mkdir(parents=True)
    for name, content in PHOTOS.items():
        (photos / name).write_bytes(content)
    done = [ingest(spark, config, str(photos), images)]
    (photos / "0.jpg").write_bytes(b"2|changed")
    done.append(ingest(spark, config, str(photos), images))
    analyzers = fakes.provider(folder / "seen")
    runs = [enrich(spark, config, images, output, provider=analyzers) for _ in range(2)]
    maintain(spark, config, output, ["compact", "vacuum", "prune-runs"])
    return {
        "spark": pyspark.__version__,
        "ingested": [(report.new, report.changed, report.unchanged) for report in done],
        "counts": [run.counts for run in runs],
        "faces": [run.n_faces for run in runs],
    }


def night_on_spark(
    python: str | Path, folder: Path, place: str, settings: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """Runs a night on Apache Spark in a process of its own, and checks what its runs did.

    Args:
        python: The interpreter.
        folder: A folder of this machine for the photographs.
        place: Where the tables are.
        settings: Spark's settings.
        environment: The process's environment; PYTHONPATH is added.

    Returns:
        What `night` returns, and what the process wrote to stderr.
    """
    engine = ["engine.name=spark", "engine.master=local[2]"]
    engine += [f"engine.settings.{key}={value}" for key, value in settings.items()]
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [str(python), __file__, str(folder), place, *engine],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["ingested"] == [[6, 0, 0], [0, 1, 5]]
    assert (told["counts"][1], told["faces"]) == ({}, [8, 0])
    return told, done.stderr


if __name__ == "__main__":
    print(json.dumps(night(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))  # noqa: T201
