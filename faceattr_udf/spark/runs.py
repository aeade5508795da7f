"""The runs table: one row per run, written when the run starts."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.privacy import Assessment
from faceattr_udf.sanitize import redacted
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.schemas import RUNS, SCHEMA_VERSION
from faceattr_udf.spark.tables import Tables

_LONG_RUN: Final = 1_000
"""Inferred images of a run whose rate tells more about images than about starting."""


@dataclass
class Run:
    """The state of one run.

    Attributes:
        images: The images table, as the user names it.
        config: The configuration.
        model_version: Version of the weights.
        run_id: Unique; begins with the start time, so that ids sort by start (to the second).
        started_at: UTC.
        state: running, completed, failed or interrupted.
        counts: Images per status.
        n_faces: Faces of those images.
        n_inferred: Distinct image contents that went through the models.
        n_duplicate_rows: Rows of the images table that were ignored because another row has the same image_id.
        n_deleted_images: Images whose results were deleted because they are no longer in the images table.
        n_retries: Steps repeated after engine errors; not a column of the table.
        images_per_second: Average over the whole run.
        finished_at: UTC; None while running.
        assessment: What the policy decided; None where nobody asked it.
        n_minors: Faces among `n_faces` that keep less because they may be minors'.
    """

    images: str
    config: Config
    model_version: str
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}")
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: str = "running"
    counts: dict[str, int] = field(default_factory=dict)
    n_faces: int = 0
    n_inferred: int = 0
    n_duplicate_rows: int = 0
    n_deleted_images: int = 0
    n_retries: int = 0
    images_per_second: float = 0.0
    finished_at: datetime | None = None
    assessment: Assessment | None = None
    n_minors: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the policy warns of."""
        return () if self.assessment is None else self.assessment.warnings

    @property
    def n_images(self) -> int:
        """Images that got a result in this run."""
        return sum(self.counts.values())

    @property
    def seconds(self) -> float:
        """Duration in seconds; 0 while running."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else 0.0

    def finish(self, state: str) -> None:
        """Records the final state, the end time and the rate."""
        self.state = state
        self.finished_at = datetime.now(UTC)
        self.images_per_second = self.n_images / self.seconds if self.seconds else 0.0


class RunsTable:
    """The runs table of one output folder."""

    def __init__(self, tables: Tables, ref: TableRef) -> None:
        self._tables = tables
        self._ref = ref

    def mark_stale_runs(self, model_version: str) -> tuple[list[str], float | None]:
        """Sets runs that never ended to interrupted.

        Returns:
            Their ids; and the images per second of the latest run of some length with a model version, if there is one.
        """
        rows = self._tables.read(self._ref)
        of_use = rows.where((F.col("state") == "running") | (F.col("n_inferred") >= _LONG_RUN))
        known = of_use.select("run_id", "state", "started_at", "model_version", "images_per_second").collect()
        run_ids = [row.run_id for row in known if row.state == "running"]
        if run_ids:
            stale = rows.where(F.col("run_id").isin(run_ids))
            self._tables.merge(self._ref, stale.withColumn("state", F.lit("interrupted")), ["run_id"])
        rates = sorted(
            (row.started_at, row.images_per_second)
            for row in known
            if row.state == "completed" and row.model_version == model_version and row.images_per_second
        )
        return run_ids, rates[-1][1] if rates else None

    def begin(self, run: Run) -> None:
        """Inserts the row of a run."""
        self._tables.append(self._ref, self._row(run))

    def end(self, run: Run, state: str) -> None:
        """Ends a run and updates its row."""
        run.finish(state)
        self._tables.merge(self._ref, self._row(run), ["run_id"])

    def _row(self, run: Run) -> DataFrame:
        privacy = run.config.privacy
        row = (
            run.run_id,
            run.state,
            run.started_at,
            run.finished_at,
            run.config.engine.name,
            redacted(run.images),
            run.n_images,
            run.n_faces,
            run.n_inferred,
            run.n_duplicate_rows,
            run.n_deleted_images,
            run.counts,
            float(run.images_per_second),
            run.config.config_id(),
            run.model_version,
            run.config.to_redacted_json(),
            SCHEMA_VERSION,
            privacy.purpose,
            list(privacy.legal_basis),
            list(privacy.jurisdictions),
            privacy.context,
            run.assessment.policy.sha256 if run.assessment else None,
            run.assessment.to_json() if run.assessment else None,
            run.n_minors if run.config.minors.age else None,
        )
        return self._tables.spark.createDataFrame([row], RUNS)
