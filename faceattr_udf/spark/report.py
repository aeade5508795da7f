"""Reads what the report shows: rows of the marts, the drift and the runs, aggregated by the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, TableNotFoundError
from faceattr_udf.report.inputs import ReportInputs, Rows
from faceattr_udf.spark.drift.table import drift_ref
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.locations import Outputs
from faceattr_udf.spark.marts.layout import mart_refs
from faceattr_udf.spark.marts.sources import ALL, UNKNOWN
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.tables import Tables

_MARTS: Final = ("share_totals", "audience", "photographs", "coverage", "shares", "marts_state")
_CATALOGS: Final = 20
_RUNS: Final = 60
_NIGHTS: Final = 30
_NAMES_SHOWN: Final = 5
_RUN: Final = (
    "state",
    "started_at",
    "finished_at",
    "n_images",
    "n_faces",
    "n_inferred",
    "images_per_second",
    "model_version",
)
_DRIFT: Final = (
    "run_id",
    "metric",
    "label",
    "value",
    "reference",
    "change",
    "t",
    "threshold",
    "alarm",
    "kind",
    "reason",
    "accepted",
    "started_at",
)
_QUALITY: Final = tuple(
    f"{name}_{part}" for name in ("face_px", "blur", "brightness") for part in ("p10", "p50", "p90")
)


def read_inputs(
    spark: SparkSession,
    config: Config,
    output: str,
    *,
    catalog: str | None = None,
    month: str | None = None,
    now: datetime,
) -> ReportInputs:
    """Reads what the report shows.

    Args:
        spark: A session; `config.engine` need not fit it.
        config: Names the tables.
        output: The folder of the output tables.
        catalog: Only this catalog; None means all.
        month: Only this month, YYYY-MM; None means all days.
        now: The time; days after it are in the future.

    Raises:
        ConfigError: The marts have no such catalog or month.
        TableNotFoundError: None of the tables is there.
        FaceattrError: The engine failed.
    """
    with adopted(spark, config) as fitting, explained("the report cannot be made", "check the tables and the access"):
        outputs = Outputs.of(fitting, qualified(spark, output))
        refs = {name: ref for name, ref in mart_refs(outputs.folder).items() if name in _MARTS}
        refs |= {"runs": outputs.runs, "drift": drift_ref(fitting, outputs)}
        tables = Tables(spark, fitting.engine.name)
        found = {name: tables.find(ref) for name, ref in refs.items()}
        if not any(frame is not None for frame in found.values()):
            msg = f"there are no tables in {output}; write them with faceattr enrich and faceattr marts"
            raise TableNotFoundError(msg)
        return _Reading(found, catalog, month, now).inputs()


@dataclass(frozen=True)
class _Reading:
    """One reading; every mart is divided by model_version."""

    found: dict[str, DataFrame | None]
    catalog: str | None
    month: str | None
    now: datetime

    def inputs(self) -> ReportInputs:
        self._check_choice()
        catalogs, n_catalogs = self._catalogs()
        return ReportInputs(
            totals=self._sums(
                "share_totals",
                ("quality_band",),
                ("n_faces", "n_abstained_gender", "n_abstained_ethnicity", "n_abstained_emotion", "n_minors"),
            ),
            days=self._days(),
            catalogs=catalogs,
            n_catalogs=n_catalogs,
            audience=self._sums("audience", ("age_group", "gender"), ("n_faces",)),
            photographs=self._sums("photographs", ("crowd", "composition"), ("n_photographs", "n_faces")),
            coverage=self._sums("coverage", ("status", "reason"), ("n_images", "n_faces")),
            quality=self._quality(),
            shares=self._shares(),
            runs=self._runs(),
            drift=self._drift(),
            built_at=self._built_at(),
            missing=[name for name, frame in self.found.items() if frame is None],
        )

    def _chosen(self, name: str) -> DataFrame | None:
        """Returns the rows of a mart by day that the page is about."""
        frame = self.found[name]
        if frame is not None and self.catalog is not None:
            frame = frame.where(F.col("catalog") == self.catalog)
        if frame is not None and self.month is not None:
            frame = frame.where(F.col("day").startswith(f"{self.month}-"))
        return frame

    def _check_choice(self) -> None:
        """Checks that the marts have faces of the catalog and the month."""
        totals = self.found["share_totals"]
        if totals is None or (self.catalog is None and self.month is None):
            return
        chosen = self._chosen("share_totals")
        if chosen is not None and chosen.limit(1).collect():
            return
        if self.month is None:
            some = totals.groupBy("catalog").agg(F.sum("n_faces").alias("n")).orderBy(F.desc("n"), "catalog")
            names = ", ".join(repr(row["catalog"]) for row in some.limit(_NAMES_SHOWN).collect())
            msg = f"the marts have no faces of the catalog {self.catalog!r}; they have {names or 'none'}"
        else:
            of = "" if self.catalog is None else f" of the catalog {self.catalog!r}"
            msg = f"the marts have no faces{of} in the month {self.month!r}; write it as YYYY-MM, such as 2026-03"
        raise ConfigError(msg)

    def _sums(self, name: str, keys: Sequence[str], values: Sequence[str]) -> Rows | None:
        frame = self._chosen(name)
        if frame is None:
            return None
        return _rows(frame.groupBy("model_version", *keys).agg(*(F.sum(value).alias(value) for value in values)))

    def _days(self) -> Rows | None:
        frame = self._chosen("share_totals")
        if frame is None:
            return None
        dated, future = F.col("day") != UNKNOWN, F.col("day") > F.lit(f"{self.now:%Y-%m-%d}")
        return _rows(
            frame.groupBy("model_version").agg(
                F.min(F.when(dated, F.col("day"))).alias("first"),
                F.max(F.when(dated, F.col("day"))).alias("last"),
                _sum_where(~dated).alias("n_undated"),
                _sum_where(dated & future).alias("n_future"),
            )
        )

    def _catalogs(self) -> tuple[Rows | None, int]:
        """Returns the largest catalogs, each model's remainder as catalog null, and the number of all."""
        frame = self._chosen("share_totals")
        if frame is None:
            return None, 0
        sums = frame.groupBy("model_version", "catalog").agg(F.sum("n_faces").alias("n_faces"))
        n_catalogs = frame.select("catalog").distinct().count()
        versions = [row["model_version"] for row in frame.select("model_version").distinct().collect()]
        rows: list[dict[str, Any]] = []
        for version in versions:
            own = sums.where(F.col("model_version") == version)
            first = _rows(own.orderBy(F.desc("n_faces"), "catalog").limit(_CATALOGS))
            total = own.agg(F.sum("n_faces").alias("n")).collect()[0]["n"]
            rest = total - sum(row["n_faces"] for row in first)
            rows += [dict(row) for row in first]
            rows += [{"model_version": version, "catalog": None, "n_faces": rest}] if rest else []
        return rows, n_catalogs

    def _quality(self) -> Rows | None:
        frame = self._chosen("coverage")
        if frame is None:
            return None
        known = frame.where((F.col("n_faces") > 0) & F.col("face_px_p50").isNotNull())
        weighted = [(F.sum(F.col(name) * F.col("n_faces")) / F.sum("n_faces")).alias(name) for name in _QUALITY]
        return _rows(known.groupBy("model_version").agg(*weighted))

    def _shares(self) -> Rows | None:
        frame = self.found["shares"]
        if frame is None:
            return None
        period, start = (ALL, ALL) if self.month is None else ("month", f"{self.month}-01")
        chosen = frame.where(
            (F.col("catalog") == (self.catalog or ALL))
            & (F.col("period") == period)
            & (F.col("period_start") == start)
            & (F.col("slice") == ALL)
        )
        return _rows(chosen)

    def _runs(self) -> Rows | None:
        frame = self.found["runs"]
        if frame is None:
            return None
        purpose = F.col("purpose") if "purpose" in frame.columns else F.lit(None).cast("string")
        return _rows(frame.select(*_RUN, purpose.alias("purpose")).orderBy(F.desc("started_at")).limit(_RUNS))

    def _drift(self) -> Rows | None:
        frame = self.found["drift"]
        if frame is None:
            return None
        nights = frame.where(F.col("metric") == "night").orderBy(F.desc("started_at")).limit(_NIGHTS).select("run_id")
        known = [row["run_id"] for row in nights.collect()]
        return _rows(frame.where(F.col("run_id").isin(known)).select(*_DRIFT)) if known else []

    def _built_at(self) -> datetime | None:
        frame = self.found["marts_state"]
        if frame is None:
            return None
        built: datetime | None = frame.agg(F.max("built_at").alias("built_at")).collect()[0]["built_at"]
        return built


def _sum_where(condition: Column) -> Column:
    return F.sum(F.when(condition, F.col("n_faces")).otherwise(0))


def _rows(frame: DataFrame) -> list[dict[str, Any]]:
    return [row.asDict() for row in frame.collect()]
