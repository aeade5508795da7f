"""The drift table: one row per run and value, and one per run with what became of the night."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pyspark.sql.types import (
    BooleanType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from faceattr_udf.config import Config
from faceattr_udf.drift.nights import Key, Night, NightReport
from faceattr_udf.drift.rule import Value, Verdict
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import DRIFT_LEASE, Outputs, TableRef
from faceattr_udf.spark.table_details import TableDetails
from faceattr_udf.spark.tables import Tables

_KEYS: Final = ("run_id", "metric", "label")

_NIGHT: Final = "night"
"""The metric of the row about the run itself; its value is the number of faces, and n that of images."""

_NO_VALUES: Final = (_NIGHT, "confidence")
"""Metrics whose rows hold no value of their own: `confidence` is made of others, and differently for every night."""

DRIFT: Final = StructType(
    [
        StructField(name, type_)
        for name, type_ in (
            ("run_id", StringType()),
            ("metric", StringType()),
            ("label", StringType()),
            ("value", DoubleType()),
            ("n", LongType()),
            ("sampling_sd", DoubleType()),
            ("reference", DoubleType()),
            ("reference_nights", IntegerType()),
            ("change", DoubleType()),
            ("noise_sd", DoubleType()),
            ("t", DoubleType()),
            ("threshold", DoubleType()),
            ("alarm", BooleanType()),
            ("kind", StringType()),
            ("reason", StringType()),
            ("accepted", BooleanType()),
            ("started_at", TimestampType()),
            ("model_version", StringType()),
            ("config_id", StringType()),
            ("judged_at", TimestampType()),
        )
    ]
)
"""One row per run and value."""


def drift_ref(config: Config, outputs: Outputs) -> TableRef:
    """Returns where the drift table is.

    Raises:
        ConfigError: Its name is none, or that of another output table.
    """
    return outputs.beside("drift", config.output.drift)


class DriftTable:
    """The drift table of one output."""

    def __init__(self, tables: Tables, config: Config, outputs: Outputs) -> None:
        self._tables = tables
        self._ref = drift_ref(config, outputs)
        self._config = config
        self._folder = outputs.folder

    def nights(self) -> list[Night]:
        """Returns the nights that were judged; none before the first."""
        frame = self._tables.find(self._ref)
        if frame is None:
            return []
        rows: dict[str, list[Any]] = defaultdict(list)
        for row in frame.select(*(name for name in DRIFT.fieldNames() if name != "judged_at")).collect():
            rows[row["run_id"]].append(row)
        return [_night(of_run) for of_run in rows.values()]

    def write(self, reports: Iterable[NightReport]) -> None:
        """Writes nights in one commit, in place of earlier rows about them.

        Raises:
            BusyError: The table is being compacted, or another process writes to it.
        """
        now = datetime.now(UTC)
        rows = [row for report in reports for row in _rows(report, now)]
        with Lease(self._folder, "jobs.drift", self._config.runtime.lease_seconds, DRIFT_LEASE):
            self._tables.ensure(self._ref, DRIFT, TableDetails("drift", self._config.output, self._config.engine.name))
            self._tables.merge(self._ref, self._tables.spark.createDataFrame(rows, DRIFT), _KEYS)


def _night(rows: Sequence[Any]) -> Night:
    (own,) = (row for row in rows if row["metric"] == _NIGHT)
    return Night(
        run_id=own["run_id"],
        started_at=own["started_at"],
        model_version=own["model_version"],
        config_id=own["config_id"],
        n_faces=int(own["value"]),
        n_images=own["n"],
        values={
            Key(row["metric"], row["label"]): Value(row["value"], row["n"], row["sampling_sd"])
            for row in rows
            if row["metric"] not in _NO_VALUES
        },
        alarmed=own["alarm"],
        accepted=own["accepted"],
    )


def _rows(report: NightReport, now: datetime) -> list[tuple[Any, ...]]:
    night = report.night
    size = Value(float(night.n_faces), night.n_images)
    own = Verdict(size, reference_nights=report.reference_nights, alarm=night.alarmed, reason=report.reason)
    unjudged = {key: Verdict(value) for key, value in night.values.items()}
    verdicts = {Key(_NIGHT): own, **unjudged, **report.verdicts}
    return [_row(report, key, verdict, now) for key, verdict in verdicts.items()]


def _row(report: NightReport, key: Key, verdict: Verdict, now: datetime) -> tuple[Any, ...]:
    night, value = report.night, verdict.value
    return (
        night.run_id,
        key.metric,
        key.label,
        value.value,
        value.n,
        value.sampling_sd,
        verdict.reference,
        verdict.reference_nights,
        verdict.change,
        verdict.noise_sd,
        verdict.t,
        verdict.threshold,
        verdict.alarm,
        str(report.kind) if report.kind and verdict.alarm else None,
        verdict.reason,
        night.accepted,
        night.started_at,
        night.model_version,
        night.config_id,
        now,
    )
