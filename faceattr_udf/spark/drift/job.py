"""Judges a run of an output against the runs before it."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from pyspark.sql import SparkSession

from faceattr_udf.config import Config
from faceattr_udf.drift.nights import NightReport, judge_in_order
from faceattr_udf.errors import ConfigError
from faceattr_udf.spark.drift.table import DriftTable
from faceattr_udf.spark.drift.values import nights
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.locations import Outputs
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.tables import Tables

_RUN: Final = ("run_id", "state", "started_at", "finished_at", "model_version", "config_id", "n_faces")


def judge_run(
    spark: SparkSession, config: Config, output: str, run_id: str | None = None, *, accept: bool = False
) -> NightReport:
    """Judges a run, and earlier ones of the same model and configuration that were not judged yet.

    Writes the table drift. A run that was judged before is judged again by its stored values.

    Args:
        spark: A session; `config.engine` need not fit it.
        config: Names the tables and has the rule's settings.
        output: The folder of the output tables.
        run_id: The run; None means the last completed one.
        accept: Whether the run's change is to be normal from now on: later runs are compared with it and with what
            follows. Later runs are judged again.

    Returns:
        What became of the run.

    Raises:
        ConfigError: There is no such run, or it did not complete.
        FaceattrError: A table is missing, or the engine failed.
    """
    with adopted(spark, config) as fitting, explained("drift cannot be judged", "check the tables and the access"):
        return _judge(spark, fitting, output, run_id, accept=accept)


def _judge(spark: SparkSession, config: Config, output: str, run_id: str | None, *, accept: bool) -> NightReport:
    tables = Tables(spark, config.engine.name)
    outputs = Outputs.of(config, qualified(spark, output))
    drift = DriftTable(tables, config, outputs)
    runs = tables.read(outputs.runs).select(*_RUN).collect()
    run = _chosen(runs, run_id, output)
    known = drift.nights()
    target = next((night for night in known if night.run_id == run["run_id"]), None)
    if target is not None:
        judged = [replace(target, accepted=target.accepted or accept)]
        if accept:
            judged += [night for night in known if night.started_at > target.started_at]
        earlier = [night for night in known if night.started_at < target.started_at]
    else:
        missing = _unjudged(runs, run, {night.run_id for night in known}, config.drift.max_nights)
        found = nights(missing, tables.read(outputs.faces), tables.read(outputs.image_results))
        judged = [replace(night, accepted=accept and night.run_id == run["run_id"]) for night in found]
        earlier = known
    reports = judge_in_order(judged, earlier, config.drift)
    report = next((report for report in reports if report.night.run_id == run["run_id"]), None)
    if report is None:
        msg = f"run {run['run_id']} cannot be judged, because later runs have replaced its rows; judge a later run"
        raise ConfigError(msg)
    drift.write(reports)
    return report


def _chosen(runs: Sequence[Any], run_id: str | None, output: str) -> Any:  # noqa: ANN401 - a row
    """Returns the run to judge."""
    if run_id is None:
        completed = [row for row in runs if row["state"] == "completed"]
        if not completed:
            msg = f"no run of {output} has completed; run faceattr enrich first"
            raise ConfigError(msg)
        return max(completed, key=lambda row: (row["finished_at"], row["run_id"]))
    for row in runs:
        if row["run_id"] == run_id:
            if row["state"] == "completed":
                return row
            msg = f"run {run_id} is {row['state']}; name a completed run, or none for the last one"
            raise ConfigError(msg)
    msg = f"there is no run {run_id!r} in {output}; the table runs lists them"
    raise ConfigError(msg)


def _unjudged(runs: Sequence[Any], run: Any, judged: Collection[str], most: int) -> list[Any]:  # noqa: ANN401 - rows
    """Returns a run and the completed ones of the same model and settings before it that were not judged."""
    earlier = [
        row
        for row in runs
        if row["state"] == "completed"
        and row["run_id"] not in judged
        and (row["model_version"], row["config_id"]) == (run["model_version"], run["config_id"])
        and row["started_at"] < run["started_at"]
    ]
    return [*sorted(earlier, key=lambda row: row["started_at"])[-most:], run]
