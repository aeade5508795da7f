"""Publishes the periods of an output folder that are over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import structlog
from pyspark.sql import SparkSession

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, TableNotFoundError
from faceattr_udf.publishing.periods import Period, choose
from faceattr_udf.publishing.release import Row, release
from faceattr_udf.shares.calibration_file import LABELS, Calibration
from faceattr_udf.shares.statistics import AttributeStatistics
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import Outputs, TableRef, join
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.publishing.layout import AUDIENCE
from faceattr_udf.spark.publishing.people import People
from faceattr_udf.spark.tables import Tables

FOLDER: Final = "published"
"""The folder of what is meant for others, below the output folder."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PublishReport:
    """What was published.

    Attributes:
        table: Where the table is.
        published: First days of the periods that were published now.
        few: Of periods that are over, but have too few people.
        open: Of periods that are not over, or still get faces.
        mixed: Of periods with faces of several model versions.
        frozen: Of periods that were published before.
        n_cells: Cells that were published now, with the suppressed ones.
        n_suppressed: Cells that were suppressed now.
        has_subjects: Whether people are told apart by subject; else each photograph counts as a person.
    """

    table: str
    published: tuple[str, ...]
    few: tuple[str, ...]
    open: tuple[str, ...]
    mixed: tuple[str, ...]
    frozen: tuple[str, ...]
    n_cells: int
    n_suppressed: int
    has_subjects: bool


def published_ref(folder: str) -> TableRef:
    """Returns the reference of the published table of an output folder."""
    return TableRef(join(folder, FOLDER, "audience"), "delta")


def publish(
    spark: SparkSession,
    config: Config,
    output: str,
    calibration: Calibration | None = None,
    *,
    today: date | None = None,
    rng: np.random.Generator | None = None,
) -> PublishReport:
    """Publishes every period that is over and was not published yet, all in one commit.

    The table itself is the record of what was published: a killed run has published everything or nothing.

    Args:
        spark: A session, from `start` or the caller's own.
        config: The configuration.
        output: The folder of the output tables, the same as for `enrich`.
        calibration: How to correct shares of the model that it was measured for; those of other models stay empty.
        today: The UTC day; None: the current one.
        rng: Chooses among cells that could be suppressed; None: one that nobody can repeat.

    Raises:
        BusyError: Another run is at work there.
        FaceattrError: The tables are missing, or the configuration does not fit them; nothing has been written.
    """
    with adopted(spark, config) as fitting:
        outputs = Outputs.of(fitting, qualified(spark, output))
        folder = join(outputs.folder, FOLDER)
        outputs.refuse_inside(folder, "published tables")
        with explained(f"the tables in {folder} cannot be published", "correct the cause and run it again"):
            faces = Tables(spark, fitting.engine.name).find(outputs.faces)
            if faces is None:
                msg = f"the table faces is not in {output}; write it with faceattr enrich"
                raise TableNotFoundError(msg)
            people = People.of(faces, fitting)
            with Lease(folder, "jobs.publish", fitting.runtime.lease_seconds) as lease:
                tables = Tables(spark, fitting.engine.name, before_commit=lease.check)
                run = _Run(tables, fitting, outputs.folder, calibration, rng)
                return run.publish(people, today or datetime.now(UTC).date())


class _Run:
    """One run, with everything checked."""

    def __init__(
        self,
        tables: Tables,
        config: Config,
        folder: str,
        calibration: Calibration | None,
        rng: np.random.Generator | None,
    ) -> None:
        self._tables, self._settings, self._calibration = tables, config.publish, calibration
        self._ref, self._rng = published_ref(folder), rng

    def publish(self, people: People, today: date) -> PublishReport:
        settings, kind = self._settings, self._settings.period
        before = self._published()
        choice = choose(people.periods(kind), before, today, kind, settings.wait_days)
        starts = [period.start for period in choice.due]
        counts = people.counts(starts, kind, settings.attributes) if starts else {}
        labels: dict[str, tuple[str, ...]] = {name: LABELS[name] for name in settings.attributes}
        releases: dict[Period, list[Row]] = {}
        for period in choice.due:
            rows = release(counts[period.start], labels, settings.k, self._statistics(period), self._rng)
            if rows:
                releases[period] = rows
        if releases:
            self._write(releases)
        cells = [row for rows in releases.values() for row in rows]
        report = PublishReport(
            table=self._ref.location,
            published=_days(list(releases)),
            few=_days([period for period in choice.due if period not in releases]),
            open=_days(choice.open),
            mixed=_days(choice.mixed),
            frozen=_days(choice.frozen),
            n_cells=len(cells),
            n_suppressed=sum(row.n_people is None for row in cells),
            has_subjects=people.has_subjects,
        )
        log.info("published", periods=len(releases), cells=report.n_cells, suppressed=report.n_suppressed)
        return report

    def _published(self) -> set[date]:
        """Returns the first days of published periods.

        Raises:
            ConfigError: They are of another kind: the difference of a month and its weeks would be published, too.
        """
        found = self._tables.find(self._ref)
        if found is None:
            return set()
        rows = found.select("period", "period_start").distinct().collect()
        for kind in {row["period"] for row in rows} - {self._settings.period}:
            msg = (
                f"publish.period = {self._settings.period}, but {self._ref} has {kind}s, and the difference of "
                f"both would tell about few people; set publish.period = {kind}"
            )
            raise ConfigError(msg)
        return {date.fromisoformat(row["period_start"]) for row in rows}

    def _statistics(self, period: Period) -> dict[str, AttributeStatistics]:
        known, (version,) = self._calibration, period.model_versions
        # A model_version is DETECTOR+ATTRIBUTES.
        fits = known is not None and known.attribute_model == version.rpartition("+")[2]
        return dict(known.attributes) if known is not None and fits else {}

    def _write(self, releases: dict[Period, list[Row]]) -> None:
        now, settings = datetime.now(UTC), self._settings
        names = AUDIENCE.schema.fieldNames()
        rows = []
        for period, cells in releases.items():
            common = {
                "period_start": period.start.isoformat(),
                "period": settings.period,
                "k": settings.k,
                "model_version": period.model_versions[0],
                "released_at": now,
            }
            for cell in cells:
                status = "suppressed" if cell.n_people is None else "ok"
                values = {**vars(cell), **common, "status": status}
                rows.append(tuple(values[name] for name in names))
        self._tables.ensure_commented(self._ref, AUDIENCE.schema, AUDIENCE.comment, AUDIENCE.comments)
        frame = self._tables.spark.createDataFrame(rows, AUDIENCE.schema).coalesce(1)
        # Replacing nothing; a repeated commit after an error that left open whether it was made changes nothing.
        self._tables.replace(self._ref, frame, "period_start", list(_days(list(releases))))


def _days(periods: Sequence[Period]) -> tuple[str, ...]:
    return tuple(period.start.isoformat() for period in periods)
