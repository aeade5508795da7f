"""Sessions of both engines, started once and only when a test asks for them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import pytest
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession

from faceattr_udf.config import Config
from faceattr_udf.spark.session import start

# Workers of other processes cannot import the tests' modules.
cloudpickle.register_pickle_by_value(fakes)

SPARK_SETTINGS = {
    # Two workers, so that what must not depend on one process does not.
    "engine.name": "spark",
    "engine.master": "local[2]",
    # Tiny tables: every further shuffle or snapshot partition is a task that only costs time.
    "engine.settings.spark.sql.shuffle.partitions": "2",
    "engine.settings.spark.databricks.delta.snapshotPartitions": "1",
    # Re-planning at run time pays for large data only.
    "engine.settings.spark.sql.adaptive.enabled": "false",
    # Two cores are busy with tests; a parallel collector would only take turns with them.
    "engine.settings.spark.driver.extraJavaOptions": "-XX:+UseSerialGC",
    # Nobody looks at the pages, and their ports may be taken.
    "engine.settings.spark.ui.enabled": "false",
    # Row by row beats compiling Java for a handful of rows.
    "engine.settings.spark.sql.codegen.wholeStage": "false",
    # Delta's own statistics of every commit cost more than the commits here.
    "engine.settings.spark.databricks.delta.checkpointInterval": "1000",
    "engine.settings.spark.sql.warehouse.dir": "",
}


@dataclass(frozen=True)
class Engine:
    """A session and how it was configured."""

    name: str
    session: SparkSession
    settings: tuple[str, ...]

    def config(self, *overrides: str) -> Config:
        return Config.load(None, [*self.settings, *overrides])

    def frame(self, rows: list[Any], schema: str) -> DataFrame:
        return self.session.createDataFrame(rows, schema)

    def select(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Makes functions.* build this engine's columns: both engines live in this process, and a variable decides."""
        if self.name == "sail":
            monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
        else:
            monkeypatch.delenv("SPARK_CONNECT_MODE_ENABLED", raising=False)

    def read(self, table: str | Path) -> DataFrame:
        return self.session.read.format("delta").load(str(table))


@pytest.fixture(scope="session")
def sail_engine() -> Engine:
    return Engine("sail", start(Config()), ())


@pytest.fixture(scope="session")
def spark_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    settings = {
        **SPARK_SETTINGS,
        "engine.settings.spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    pairs = tuple(f"{key}={value}" for key, value in settings.items())
    connected = os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)
    session = start(Config.load(None, pairs))
    yield Engine("spark", session, pairs)
    session.stop()
    if connected:
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = connected


@pytest.fixture(params=["sail", pytest.param("spark", marks=pytest.mark.spark)])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Each engine in turn."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    found.select(monkeypatch)
    return found
