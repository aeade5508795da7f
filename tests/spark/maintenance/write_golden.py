"""Writes golden tables with this release's code: images, faces, image_results and runs. Later releases must open them.

    PYTHONPATH=. python tests/spark/maintenance/write_golden.py sail|spark

They go to tests/spark/golden/schema_N/ENGINE and are committed with the change that makes N the schema version.
Golden tables of a released version are never written again.
"""

import os
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import fakes
from fakes import content, provider
from pyspark import cloudpickle

from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment import enrich
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.schemas import IMAGES, SCHEMA_VERSION
from faceattr_udf.spark.session import start
from faceattr_udf.spark.tables import Tables

GOLDEN = Path(__file__).parents[1] / "golden"
TABLES = ("faces", "image_results", "runs")

CONTENTS = {
    "a.jpg": content(2),
    "b.jpg": content(1, "b"),
    "c.jpg": content(0),
    "d.jpg": None,
    "e.jpg": b"garbage",
    "z.jpg": content(2),
}
"""The contents of the images. Never change them: the golden tables of all versions were written from them."""


def write(engine: str) -> None:
    cloudpickle.register_pickle_by_value(fakes)
    target = GOLDEN / f"schema_{SCHEMA_VERSION}" / engine
    rows = [
        (name, data, sha256(data).hexdigest() if data else None, f"/photos/{name}", len(data or b""))
        for name, data in CONTENTS.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # relative names, so that no path of this machine gets into the tables
        settings = ["engine.settings.spark.sql.shuffle.partitions=1", "engine.settings.spark.ui.enabled=false"]
        config = Config.load(None, [f"engine.name={engine}", "enrich.wave_images=3", *settings])
        session = start(config)
        tables = Tables(session, engine)
        images = TableRef(str(Path("images").absolute()), "delta")
        tables.ensure(images, IMAGES)
        tables.append(images, session.createDataFrame(rows, IMAGES))
        enrich(session, config, "images", "out", provider=provider(Path("seen").absolute()))
        shutil.rmtree(target, ignore_errors=True)
        for name in ("images", *(f"out/{table}" for table in TABLES)):
            leave_out = shutil.ignore_patterns("*.crc")  # Hadoop's checksums of local files are not part of the table
            shutil.copytree(name, target / Path(name).name, ignore=leave_out)
        for entry in target.glob("*/_delta_log/*.json"):
            entry.write_text(entry.read_text().replace(folder, ""))  # in an unused comment of the embedded engine
        os.chdir(target)


if __name__ == "__main__":
    write(sys.argv[1])
