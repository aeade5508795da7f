"""Sessions of every engine from one configuration."""

import os
import subprocess
import sys
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
def test_a_second_start_finds_the_session_of_the_first(engine: Engine) -> None:
    assert start(engine.config()) is engine.session


@pytest.mark.spark
@pytest.mark.parametrize("name", ["spark_engine", pytest.param("connect_engine", marks=pytest.mark.slow)])
def test_arrow_batches_of_spark_are_bounded_by_the_configuration(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Engine = request.getfixturevalue(name)
    engine.select(monkeypatch)
    for overrides in (["enrich.max_batch_rows=7", "enrich.max_batch_bytes=1000"], []):
        config = engine.config(*overrides)
        conf = start(config).conf
        assert conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") == str(config.enrich.max_batch_rows)
        assert conf.get("spark.sql.execution.arrow.maxBytesPerBatch") == str(config.enrich.max_batch_bytes)
        assert conf.get("spark.sql.parquet.columnarReaderBatchSize") == str(config.enrich.max_batch_rows)


def test_children_survive_a_fork_after_the_embedded_engine_started() -> None:
    code = """
import subprocess
from faceattr_udf.spark.session import start
start().range(1).count()
# Spark's JVM is started like this: a child that runs Python before it becomes another program.
for _ in range(200):
    child = subprocess.Popen(["true"], preexec_fn=lambda: None)
    assert child.wait() == 0, child.returncode
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603  # above
    assert result.returncode == 0, result.stderr


@pytest.mark.spark
def test_spark_keeps_the_code_of_more_queries_than_a_night_has(spark_engine: Engine) -> None:
    settings = spark_engine.session.sparkContext._jvm.org.apache.spark.sql.internal.SQLConf.get()
    assert settings.codegenCacheMaxEntries() == 1000


@pytest.mark.spark
@pytest.mark.parametrize("name", ["spark_engine", pytest.param("connect_engine", marks=pytest.mark.slow)])
def test_a_row_group_of_pictures_is_a_task(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Spark's own default would make tasks of a core's share of the file, and a wave may lie in one of them."""
    engine: Engine = request.getfixturevalue(name)
    engine.select(monkeypatch)
    pictures = [os.urandom(2**20) for _ in range(60)]
    pq.write_table(pa.table({"content": pictures}), tmp_path / "a.parquet", row_group_size=15, compression="none")
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
def test_a_setting_that_a_connect_server_only_takes_at_its_start_is_named(
    connect_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_engine.select(monkeypatch)
    with pytest.raises(EngineError, match=r"does not take engine\.settings 'spark\.speculation' .*at its start"):
        start(connect_engine.config("engine.settings.spark.speculation=false"))


def test_a_connect_server_is_used_through_its_address(sail_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
    monkeypatch.setattr(session, "_connected", {})  # a client that knows no server yet
    remote = session._sail["remote"]  # the embedded engine is a Connect server
    config = Config.load(None, ["engine.name=connect", f"engine.remote={remote}"])
    connected = start(config)
    assert connected is not sail_engine.session
    assert connected.conf.get("spark.sql.shuffle.partitions") == "8"  # it was not told any other
    assert connected.range(3).agg(F.sum("id")).collect()[0][0] == 3
    assert start(config) is connected


def test_a_stopped_session_is_not_found_again(monkeypatch: pytest.MonkeyPatch, sail_engine: Engine) -> None:
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
    monkeypatch.setattr(session, "_connected", {})
    first = start(Config())
    first.stop()
    assert start(Config()).range(1).count() == 1
    assert sail_engine.session.range(1).count() == 1


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


def test_the_embedded_engine_keeps_a_session_that_nobody_uses() -> None:
    timeout, count, _ = _idle(0)
    assert int(timeout) > 24 * 3600
    assert count == "3"


def test_a_session_that_its_server_dropped_is_replaced() -> None:
    timeout, *reason, last = _idle(4, SAIL_SPARK__SESSION_TIMEOUT_SECS="1")
    assert timeout == "1"
    assert "is not running" in " ".join(reason)  # so it is this variable that the server reads
    assert last == "3"
