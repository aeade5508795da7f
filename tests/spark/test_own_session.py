"""Runs with a session that the caller has started, on every engine, also where it refuses settings."""

import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from conftest import Engine
from fakes import content, provider
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from faceattr_udf import Config
from faceattr_udf.spark import enrich, ingest
from faceattr_udf.spark import session as sessions
from faceattr_udf.spark.own_session import adopted, engine_of
from faceattr_udf.spark.session_settings import apply_settings, restore_settings

_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"


class RefusingConf:
    """A session's settings on a managed platform: most are refused."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {"a": "1"}

    def get(self, key: str, default: str | None) -> str | None:
        return self.values.get(key, default)

    def set(self, key: str, value: str) -> None:
        if key.startswith("spark."):
            msg = f"[CONFIG_NOT_AVAILABLE] Configuration {key} is not available."
            raise AnalysisException(msg)
        self.values[key] = value

    def unset(self, key: str) -> None:
        del self.values[key]


class RefusingSession:
    conf = RefusingConf()


def test_refused_settings_are_skipped_and_said_once() -> None:
    session: Any = RefusingSession()
    with structlog.testing.capture_logs() as logs:
        before = apply_settings(session, {"spark.x": "1", "spark.y": "2", "a": "2", "b": "3"})
    (event,) = logs
    assert (event["event"], event["settings"]) == ("settings_refused", ["spark.x", "spark.y"])
    assert "CONFIG_NOT_AVAILABLE" in event["reason"]
    assert session.conf.values == {"a": "2", "b": "3"}
    restore_settings(session, before)
    assert session.conf.values == {"a": "1"}


@pytest.mark.on_connect
def test_engine_is_known_from_the_session(engine: Engine) -> None:
    assert engine_of(engine.session) == engine.name


def _own(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SparkSession:
    """Returns the engine's session as one that this package has not started."""
    monkeypatch.setattr(sessions, "_started", set())
    return engine.session


@pytest.mark.on_connect
def test_default_configuration_fits_any_session(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark = _own(engine, monkeypatch)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(content(2))
    images, output = str(tmp_path / "images"), str(tmp_path / "out")
    # A notebook's process may have used another engine before.
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1") if engine.name == "spark" else monkeypatch.delenv(
        "SPARK_CONNECT_MODE_ENABLED", raising=False
    )
    mode = os.environ.get("SPARK_CONNECT_MODE_ENABLED")
    ingest(spark, Config(), str(tmp_path / "photos"), images)
    run = enrich(spark, Config(), images, output, provider=provider(tmp_path / "seen"))
    assert os.environ.get("SPARK_CONNECT_MODE_ENABLED") == mode
    assert (run.counts, run.n_faces, run.config.engine.name) == ({"ok": 1}, 2, engine.name)
    engine.select(monkeypatch)
    assert [row.engine for row in engine.read(tmp_path / "out" / "runs").collect()] == [engine.name]


@pytest.mark.spark
@pytest.mark.parametrize("name", ["spark_engine", pytest.param("connect_engine", marks=pytest.mark.slow)])
def test_run_goes_on_where_a_session_refuses_a_setting(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Engine = request.getfixturevalue(name)
    engine.select(monkeypatch)
    spark = _own(engine, monkeypatch)
    static = "spark.sql.warehouse.dir"
    config = engine.config("enrich.max_batch_rows=7", f"engine.settings.{static}=/elsewhere")
    with structlog.testing.capture_logs() as logs, adopted(spark, config):
        assert spark.conf.get(_ROWS) == "7"
    (event,) = [event for event in logs if event["event"] == "settings_refused"]
    assert event["settings"] == [static]


@pytest.mark.spark
def test_own_session_gets_its_settings_back(spark_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spark = _own(spark_engine, monkeypatch)
    spark_engine.select(monkeypatch)
    before = spark.conf.get(_ROWS)
    with adopted(spark, Config.load(None, ["enrich.max_batch_rows=7"])) as config:
        assert spark.conf.get(_ROWS) == "7"
        assert config.engine.name == "spark"
    assert spark.conf.get(_ROWS) == before
