"""Builds the marts of an output folder, or brings them up to date: only days that changed are computed again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import TableNotFoundError
from faceattr_udf.shares.calibration_file import Calibration
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import Outputs
from faceattr_udf.spark.marts import counts, scores, weights
from faceattr_udf.spark.marts.corrected import Calibrated, corrected_shares
from faceattr_udf.spark.marts.layout import BY_DAY, MARTS, mart_refs, marts_folder
from faceattr_udf.spark.marts.sources import ALL, Places, placed_faces, placed_images
from faceattr_udf.spark.marts.state import DayState, dirty_days, fingerprints, periods_of, recorded, settings_id
from faceattr_udf.spark.marts.views import check_view_schema, create_views
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.tables import Tables

_PERIOD: Final = "day string, period string, period_start string"

_WEIGHTS: Final = {
    "label_cells": weights.label_cells,
    "label_weights_var": weights.label_weights_var,
    "label_weights": weights.label_weights,
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class MartsReport:
    """What a build did.

    Attributes:
        folder: Where the marts are.
        days: The days that were built again, in order; empty if nothing has changed.
        n_days: The days that the marts hold.
        uncorrected: Model versions in the faces without a calibration: their shares are raw.
        views: The views that were created or replaced in the schema `marts.views`.
    """

    folder: str
    days: tuple[str, ...]
    n_days: int
    uncorrected: tuple[str, ...]
    views: tuple[str, ...] = ()


def build_marts(
    spark: SparkSession,
    config: Config,
    output: str,
    calibration: Calibration | None = None,
    *,
    on_step: Callable[[str], object] = lambda _: None,
) -> MartsReport:
    """Brings the marts of an output folder up to date.

    Days whose rows of faces and image_results changed are computed again and committed table by table; marts_state is
    committed last. A killed build leaves these days to the next one, and a build without changes commits nothing.

    Args:
        spark: A session, from `start` or the caller's own.
        config: The configuration.
        output: The folder of the output tables, the same as for `enrich`.
        calibration: How to correct shares of the model that it was measured for; those of other models stay raw.
        on_step: For tests; called with the name of each table after its commit.

    Returns:
        What was built.

    Raises:
        BusyError: Another build is at work there.
        FaceattrError: The tables are missing, or the configuration does not fit them; nothing has been written.
    """
    with adopted(spark, config) as fitting:
        outputs = Outputs.of(fitting, qualified(spark, output))
        folder = marts_folder(outputs.folder)
        outputs.refuse_inside(folder, "the marts")
        check_view_schema(spark, fitting)
        with explained(f"the marts in {folder} cannot be built", "correct the cause and run it again to continue"):
            reading = Tables(spark, fitting.engine.name)
            faces, results = (reading.find(ref) for ref in (outputs.faces, outputs.image_results))
            if faces is None or results is None:
                msg = f"the tables faces and image_results are not in {output}; write them with faceattr enrich"
                raise TableNotFoundError(msg)
            places = Places.of(faces.schema, fitting.marts)
            with Lease(folder, "jobs.marts", fitting.runtime.lease_seconds) as lease:
                tables = Tables(spark, fitting.engine.name, before_commit=lease.check)
                placed = placed_faces(faces, places)
                images = placed_images(results, placed, places)
                report = _Build(tables, fitting, outputs.folder, calibration, on_step).run(placed, images)
                if not fitting.marts.views:
                    return report
                return replace(report, views=tuple(create_views(tables, fitting, outputs)))


class _Build:
    """One build, with everything checked."""

    def __init__(
        self,
        tables: Tables,
        config: Config,
        folder: str,
        calibration: Calibration | None,
        on_step: Callable[[str], object],
    ) -> None:
        self._tables, self._config, self._folder = tables, config, marts_folder(folder)
        self._spark = tables.spark
        self._refs = mart_refs(folder)
        self._calibration = calibration
        self._on_step = on_step
        self._staging = Staging(self._spark, self._folder, "build")

    def run(self, faces: DataFrame, images: DataFrame) -> MartsReport:
        for name, mart in MARTS.items():
            self._tables.ensure_commented(self._refs[name], mart.schema, mart.comment, mart.comments)
        self._on_step("created")
        versions = sorted(row["model_version"] for row in faces.select("model_version").distinct().collect())
        uncorrected = tuple(version for version in versions if not self._corrects(version))
        if uncorrected:
            log.warning("shares_not_corrected", model_versions=uncorrected, advice="see docs/shares.md, own weights")
        calibration_id = self._calibration.calibration_id if self._calibration else None
        now = fingerprints(faces, images, settings_id(self._config.marts, calibration_id))
        days = dirty_days(now, recorded(self._tables.read(self._refs["marts_state"])))
        log.info("marts_planned", days=len(days), of=len(now))
        self._staging.clear()  # of a killed build
        if days:
            self._build_days(faces, images, days)
            self._write_weights([version for version in versions if self._corrects(version)])
            self._build_shares(days)
            self._record(days, now)
            self._staging.clear()
        return MartsReport(self._folder, tuple(days), len(now), uncorrected)

    def _corrects(self, version: str) -> bool:
        """Checks whether the calibration is for the attribute model of a model_version, DETECTOR+ATTRIBUTES."""
        return self._calibration is not None and self._calibration.attribute_model == version.rpartition("+")[2]

    def _build_days(self, faces: DataFrame, images: DataFrame, days: Sequence[str]) -> None:
        chosen = F.broadcast(self._spark.createDataFrame([(day,) for day in days], "day string"))
        faces, images = faces.join(chosen, "day"), images.join(chosen, "day")
        statistics = self._calibration.attributes if self._calibration else {}
        rows, method = self._staging.write("scored", scores.scored(faces)), self._config.marts.method
        new = {
            "share_totals": counts.share_totals(faces),
            "share_stats": scores.share_stats(rows, method),
            "share_products": scores.share_products(rows, method),
            "share_cells": scores.share_cells(rows, statistics),
            "audience": counts.audience(faces),
            "photographs": counts.photographs(images),
            "coverage": counts.coverage(images, faces),
        }
        for name in BY_DAY:
            self._replace(name, new[name], "day", days)

    def _write_weights(self, versions: Sequence[str]) -> None:
        """Writes the tables of the calibration, unless they hold it; label_weights is last, and tells."""
        found = self._read("label_weights").select("model_version", "calibration_id").distinct().collect()
        held = {(row["model_version"], row["calibration_id"]) for row in found}
        known = self._calibration
        if held == {(version, known.calibration_id if known else None) for version in versions}:
            return
        for name, make in _WEIGHTS.items():
            rows = list(make(known, versions)) if known else []
            new = self._spark.createDataFrame(rows, MARTS[name].schema)
            gone = {version for version, _ in held} | set(versions)
            self._replace(name, new, "model_version", sorted(gone))

    def _build_shares(self, days: Iterable[str]) -> None:
        """Computes the shares of every period that contains one of the days."""
        starts = {start for day in days for _, start in periods_of(day)}
        held = [row["day"] for row in self._read("share_stats").select("day").distinct().collect()]
        # Periods that begin on the same day are replaced together.
        rows = [(day, *period) for day in held for period in periods_of(day) if period[1] in starts]
        periods = F.broadcast(self._spark.createDataFrame(rows, _PERIOD))
        stats, products, cells = (
            self._spread(self._read(name).join(periods, "day"))
            for name in ("share_stats", "share_products", "share_cells")
        )
        calibrated = Calibrated(*(self._read(name) for name in ("label_weights", "label_weights_var", "label_cells")))
        new = corrected_shares(
            stats,
            products,
            cells,
            calibrated=calibrated,
            population=self._config.marts.population,
            stage=self._staging.write,
        )
        self._replace("shares", new, "period_start", sorted(starts))

    @staticmethod
    def _spread(rows: DataFrame) -> DataFrame:
        """Counts every row for its own catalog and slice, and for all of them."""
        spread = rows
        for name in ("catalog", "slice"):
            both = F.when(F.col(name) == ALL, F.array(F.lit(ALL))).otherwise(F.array(F.col(name), F.lit(ALL)))
            spread = spread.withColumn(name, F.explode(both))
        return spread

    def _record(self, days: Sequence[str], now: dict[str, DayState]) -> None:
        built = datetime.now(UTC)
        rows = [(day, now[day].settings_id, now[day].n_rows, now[day].fingerprint, built) for day in days if day in now]
        self._replace("marts_state", self._spark.createDataFrame(rows, MARTS["marts_state"].schema), "day", days)

    def _read(self, name: str) -> DataFrame:
        return self._tables.read(self._refs[name])

    def _replace(self, name: str, new: DataFrame, key: str, values: Sequence[str]) -> None:
        """Replaces the rows with these values in one commit, without a join."""
        self._tables.replace(self._refs[name], new.select(*MARTS[name].schema.fieldNames()), key, values)
        self._on_step(name)
