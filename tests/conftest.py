"""Provides a session of every engine, started once and on demand, and the demo's photographs."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import hypothesis
import pyarrow as pa
import pytest
from demo_faces import write_labeled_faces
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession
from shared_data import DEMO_PHOTOS, fetch_demo_photos
from spark_servers import connect_server

from faceattr_udf.config import Config
from faceattr_udf.datasets.labeled_faces import read_table
from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.session import start

pytest_plugins = ["workspaces"]

# Worker processes cannot import the tests' modules.
cloudpickle.register_pickle_by_value(fakes)

# A loaded machine is slow, not wrong.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

# The tests keep both cores busy, so a parallel garbage collector gains nothing. A test's JVM lives for minutes: the
# second compiler costs more than it saves.
JAVA_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"

SPARK_SETTINGS = {
    # The tables are tiny, so additional shuffle and snapshot partitions only cost time.
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    # Adaptive execution pays off for large data only.
    "spark.sql.adaptive.enabled": "false",
    "spark.driver.extraJavaOptions": JAVA_OPTIONS,
    "spark.executor.extraJavaOptions": JAVA_OPTIONS,
    # The web UI is not needed, and its ports may be in use.
    "spark.ui.enabled": "false",
    # Interpreting plans is faster than compiling Java code for a handful of rows.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # Writing checkpoints of Delta's log costs more than reading a few commits.
    "spark.databricks.delta.checkpointInterval": "1000",
}


def pytest_configure() -> None:
    """Limits every xdist process to one torch thread: each has one core, and more threads would wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass(frozen=True)
class Engine:
    """A session and the settings that it was started with."""

    name: str
    session: SparkSession
    settings: tuple[str, ...]

    def config(self, *overrides: str) -> Config:
        return Config.load(None, [*self.settings, *overrides])

    def frame(self, rows: list[Any], schema: str) -> DataFrame:
        return self.session.createDataFrame(rows, schema)

    def select(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Makes pyspark.sql.functions build this engine's columns; an environment variable chooses between engines."""
        if self.name == "spark":
            monkeypatch.delenv("SPARK_CONNECT_MODE_ENABLED", raising=False)
        else:
            monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")

    def read(self, table: str | Path) -> DataFrame:
        return self.session.read.format("delta").load(str(table))


@pytest.fixture(scope="session")
def demo_photos() -> Path:
    """Returns the folder of the demo's eight photographs; downloads them if they are missing."""
    try:
        fetch_demo_photos()
    except FaceattrError as error:
        pytest.skip(str(error))
    return DEMO_PHOTOS


@pytest.fixture(scope="session")
def demo_faces(demo_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Returns forty augmented crops of the faces in the demo's photographs, with synthetic labels."""
    folder = tmp_path_factory.mktemp("faces")
    write_labeled_faces(demo_photos, folder, {"train": 40})
    return read_table(folder / "faces-train.parquet")


@pytest.fixture(scope="session")
def sail_engine() -> Engine:
    return Engine("sail", start(Config()), ())


@pytest.fixture(scope="session")
def spark_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    settings = SPARK_SETTINGS | {
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    # Two workers, so that tests fail if the code depends on a single process.
    pairs = ("engine.name=spark", "engine.master=local[2]")
    pairs += tuple(f"engine.settings.{key}={value}" for key, value in settings.items())
    connected = os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)
    session = start(Config.load(None, pairs))
    yield Engine("spark", session, pairs)
    session.stop()
    if connected:
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = connected


@pytest.fixture(scope="session")
def connect_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Starts Apache Spark's Connect server in another process; its Python workers can import the package."""
    workers = {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[1])}
    with connect_server(tmp_path_factory.mktemp("connect"), SPARK_SETTINGS, workers) as remote:
        pairs = ("engine.name=connect", f"engine.remote={remote}")
        session = start(Config.load(None, pairs))
        yield Engine("connect", session, pairs)
        session.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that uses `engine` on the embedded engine, and on the other engines that its markers name."""
    if "engine" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        names: list[Any] = ["sail"]
        on_spark, on_connect = marked("on_spark"), marked("on_connect")
        if on_spark or on_connect:
            slow = [pytest.mark.slow] if on_spark and on_spark.kwargs.get("slow") else []
            names.append(pytest.param("spark", marks=[pytest.mark.spark, *slow]))
        if on_connect:
            # Slow, because it starts another JVM; the client is the same as the embedded engine's.
            names.append(pytest.param("connect", marks=[pytest.mark.spark, pytest.mark.slow]))
        metafunc.parametrize("engine", names, indirect=True)


@pytest.hookimpl(wrapper=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Groups tests for `--dist loadgroup` by file, and apart from each other a file's tests with and without a JVM.

    The JVM's tests come first: they take the longest, and each process keeps its JVM.
    """
    for item in items:
        on_jvm = item.get_closest_marker("spark") is not None
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(f"{item.path.name} on a JVM" if on_jvm else item.path.name))
    items.sort(key=lambda item: item.get_closest_marker("spark") is None)
    return (yield)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Returns the engine of the test's parameter."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    found.select(monkeypatch)
    return found
