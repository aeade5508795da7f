"""The runs table: one row per run, from its start."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.sanitize import redacted
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.schemas import RUNS, SCHEMA_VERSION
from faceattr_udf.spark.tables import Tables


@dataclass
class Run:
    """One run, as far as it has come.

    Attributes:
        images: How the user names the images table.
        config: Its configuration.
        model_version: The weights.
        run_id: Unique; it begins with its second, so that ids of different seconds sort as runs do.
        started_at: UTC.
        state: running, completed, failed or interrupted.
        counts: Images per status.
        n_faces: Faces of those images.
        n_inferred: Images whose content went through the models; equal content only once.
        n_duplicate_rows: Rows of the images table that were left out because another has the same image_id.
        n_deleted_images: Images whose rows were deleted because they have left the images table.
        n_retries: How often the engine failed and a step was taken again; the table does not hold it.
        images_per_second: Images over seconds, over the whole run.
        finished_at: UTC; None while running.
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

    @property
    def n_images(self) -> int:
        """Images that the run gave a result."""
        return sum(self.counts.values())

    @property
    def seconds(self) -> float:
        """Seconds from start to end; 0 while running."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else 0.0

    def finish(self, state: str) -> None:
        """Ends the run in a state."""
        self.state = state
        self.finished_at = datetime.now(UTC)
        self.images_per_second = self.n_images / self.seconds if self.seconds else 0.0


class RunsTable:
    """The runs table of one output."""

    def __init__(self, tables: Tables, ref: TableRef) -> None:
        self._tables = tables
        self._ref = ref

    def interrupt_others(self) -> list[str]:
        """Marks the runs that never ended, and returns their ids."""
        left = self._tables.read(self._ref).where("state = 'running'").select("run_id")
        run_ids = [row.run_id for row in left.collect()]
        if run_ids:
            rows = self._tables.read(self._ref).where(F.col("run_id").isin(run_ids))
            self._tables.merge(self._ref, rows.withColumn("state", F.lit("interrupted")), ["run_id"])
        return run_ids

    def begin(self, run: Run) -> None:
        """Inserts the run's row."""
        self._tables.append(self._ref, self._row(run))

    def end(self, run: Run, state: str) -> None:
        """Ends the run and replaces its row."""
        run.finish(state)
        self._tables.merge(self._ref, self._row(run), ["run_id"])

    def _row(self, run: Run) -> DataFrame:
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
            run.config.recorded(),
            SCHEMA_VERSION,
        )
        return self._tables.spark.createDataFrame([row], RUNS)
