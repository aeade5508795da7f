"""Sessions of every engine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SPARK_SETTINGS, Engine
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError
from faceattr_udf.spark import session
from faceattr_udf.spark.session import start


@pytest.mark.on_connect
def test_session_time_zone_is_utc(engine: Engine) -> None:
    assert engine.session.conf.get("spark.sql.session.timeZone") == "UTC"


@pytest.mark.on_connect
def test_second_start_returns_the_same_session(engine: Engine) -> None:
    assert start(engine.config()) is engine.session


@pytest.mark.spark
@pytest.mark.parametrize("name", ["spark_engine", pytest.param("connect_engine", marks=pytest.mark.slow)])
def test_config_bounds_arrow_batches_on_spark(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Engine = request.getfixturevalue(name)
    engine.select(monkeypatch)
    for overrides, scanned in ((["enrich.max_batch_rows=7", "enrich.max_batch_bytes=9000000"], "2"), ([], "16")):
        config = engine.config(*overrides)
        conf = start(config).conf
        assert conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") == str(config.enrich.max_batch_rows)
        assert conf.get("spark.sql.execution.arrow.maxBytesPerBatch") == str(config.enrich.max_batch_bytes)
        assert conf.get("spark.sql.parquet.columnarReaderBatchSize") == scanned


def test_child_processes_survive_after_sail_started() -> None:
    code = """
import subprocess
from faceattr_udf.spark.session import start
start().range(1).count()
# Spark's JVM is started like this: the forked child runs Python code before it executes another program.
for _ in range(200):
    child = subprocess.Popen(["true"], preexec_fn=lambda: None)
    assert child.wait() == 0, child.returncode
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603  # above
    assert result.returncode == 0, result.stderr


@pytest.mark.spark
def test_spark_caches_the_generated_code_of_1000_queries(spark_engine: Engine) -> None:
    settings = spark_engine.session.sparkContext._jvm.org.apache.spark.sql.internal.SQLConf.get()
    assert settings.codegenCacheMaxEntries() == 1000


@pytest.mark.spark
@pytest.mark.parametrize("name", ["spark_engine", pytest.param("connect_engine", marks=pytest.mark.slow)])
def test_each_row_group_of_images_is_a_task(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With Spark's default a task is a core's share of the file, so a whole wave could be one task."""
    engine: Engine = request.getfixturevalue(name)
    engine.select(monkeypatch)
    images = [os.urandom(2**20) for _ in range(60)]
    pq.write_table(pa.table({"content": images}), tmp_path / "a.parquet", row_group_size=15, compression="none")
    tasks = engine.session.read.parquet(str(tmp_path)).select(F.spark_partition_id(), F.length("content"))
    assert len({task for task, _ in tasks.collect()}) == 4


@pytest.mark.slow
@pytest.mark.spark
def test_connect_server_settings_are_kept_unless_overridden(
    connect_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_engine.select(monkeypatch)
    key = "spark.sql.shuffle.partitions"
    assert connect_engine.session.conf.get(key) == SPARK_SETTINGS[key]
    assert start(connect_engine.config(f"engine.settings.{key}=3")).conf.get(key) == "3"
    start(connect_engine.config(f"engine.settings.{key}={SPARK_SETTINGS[key]}"))


@pytest.mark.slow
@pytest.mark.spark
def test_setting_refused_by_connect_server_is_named(connect_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_engine.select(monkeypatch)
    with pytest.raises(
        EngineError, match=r"does not accept engine\.settings 'spark\.speculation' .*when the server starts"
    ):
        start(connect_engine.config("engine.settings.spark.speculation=false"))


def test_connect_server_is_reached_by_address(sail_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
    monkeypatch.setattr(session, "_sessions", {})  # as in a process without sessions
    remote = next(iter(session._embedded.values())).remote  # the embedded engine is a Connect server
    config = Config.load(None, ["engine.name=connect", f"engine.remote={remote}"])
    connected = start(config)
    assert connected is not sail_engine.session
    assert connected.conf.get("spark.sql.shuffle.partitions") == "8"  # the server has no value of its own
    assert connected.range(3).agg(F.sum("id")).collect()[0][0] == 3
    assert start(config) is connected


def test_stopped_session_is_replaced(monkeypatch: pytest.MonkeyPatch, sail_engine: Engine) -> None:
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
    monkeypatch.setattr(session, "_sessions", {})
    first = start(Config())
    first.stop()
    assert start(Config()).range(1).count() == 1
    assert sail_engine.session.range(1).count() == 1


def scanned_batch_rows(config: Config, folder: Path) -> int:
    """Returns the number of rows in the largest batch that a scan passes to a UDF."""

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"rows": [batch.num_rows]})

    rows = start(config).read.parquet(str(folder)).mapInArrow(count, "rows long").collect()
    return max(row["rows"] for row in rows)


def test_each_config_bounds_batches_on_sail(sail_engine: Engine, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": range(2000)}), tmp_path / "a.parquet")
    first, second = (sail_engine.config(f"enrich.max_batch_rows={rows}") for rows in (100, 7))
    assert scanned_batch_rows(first, tmp_path) == 100
    assert scanned_batch_rows(second, tmp_path) == 7
    assert scanned_batch_rows(first, tmp_path) == 100
    assert start(first).range(3).count() == 3
    assert "SAIL_EXECUTION__BATCH_SIZE" not in os.environ


def test_environment_overrides_batch_rows_on_sail(
    sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"x": range(2000)}), tmp_path / "a.parquet")
    monkeypatch.setenv("SAIL_EXECUTION__BATCH_SIZE", "50")
    assert scanned_batch_rows(sail_engine.config("enrich.max_batch_rows=7"), tmp_path) == 50
    assert os.environ["SAIL_EXECUTION__BATCH_SIZE"] == "50"


_IDLE = """
import os, sys, time
from faceattr_udf.spark.session import start
first = start()
print(os.environ["SAIL_SPARK__SESSION_TIMEOUT_SECS"])
time.sleep(float(sys.argv[1]))
try:
    print(first.range(3).count())
except Exception as error:
    print(error)
print(start().range(3).count())
"""


def _idle(seconds: int, **environment: str) -> list[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "SAIL_SPARK__SESSION_TIMEOUT_SECS"}
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", _IDLE, str(seconds)],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return (done.stdout + done.stderr).splitlines()


def test_idle_sail_session_is_kept() -> None:
    timeout, count, _ = _idle(0)
    assert int(timeout) > 24 * 3600
    assert count == "3"


def test_session_dropped_by_its_server_is_replaced() -> None:
    timeout, *reason, last = _idle(4, SAIL_SPARK__SESSION_TIMEOUT_SECS="1")
    assert timeout == "1"
    assert "is not running" in " ".join(reason)  # so the server does read this variable
    assert last == "3"
