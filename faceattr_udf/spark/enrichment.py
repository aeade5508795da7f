"""The night: images that have no result yet are inferred wave by wave and committed, each wave as a whole.

Two tables cannot commit together, so the order does it: a wave's faces are committed before its image_results. Killed
in between, its images are still pending and the next run replaces their faces.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.spark.images import ImagesTable
from faceattr_udf.spark.migrations import require_current
from faceattr_udf.spark.pacing import Pace
from faceattr_udf.spark.preflight import check_models
from faceattr_udf.spark.progress import Progress
from faceattr_udf.spark.runs import Run, RunsTable
from faceattr_udf.spark.schemas import IMAGE_RESULTS, RUNS, faces_table
from faceattr_udf.spark.staging import Staging
from faceattr_udf.spark.tables import TableRef, Tables, absolute, input_ref, output_ref
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzerProvider
from faceattr_udf.spark.waves import Wave

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Where a run writes."""

    folder: str
    faces: TableRef
    image_results: TableRef
    runs: TableRef

    @property
    def tables(self) -> dict[str, TableRef]:
        """The tables by what they hold, whatever the configuration calls them."""
        return {"faces": self.faces, "image_results": self.image_results, "runs": self.runs}

    @classmethod
    def of(cls, config: Config, folder: str) -> "Outputs":
        """The tables that the configuration names, below a folder or in the catalogue."""
        names = config.output
        return cls(
            absolute(folder),
            output_ref(names.faces, folder),
            output_ref(names.image_results, folder),
            output_ref(names.runs, folder),
        )


def _pass(_: str) -> None:
    pass


def enrich(
    spark: SparkSession,
    config: Config,
    images: str,
    output: str,
    *,
    provider: AnalyzerProvider = DEFAULT_PROVIDER,
    checkpoint: Callable[[str], None] = _pass,
) -> Run:
    """Gives every image of a table its rows in image_results and faces.

    One run at a time may write to an output.

    Args:
        spark: A session of `config.engine`.
        config: The configuration.
        images: The images table: a path, a URI, or a catalogue name.
        output: The folder of the output tables and of the staging area.
        provider: Where analyzers come from.
        checkpoint: Called with "planned", "staged", "faces", "results", "deleted" as the run passes these points.

    Returns:
        The run, as its row in the runs table says.

    Raises:
        FaceattrError: Something the user can correct; nothing has been written then.
    """
    tables = Tables(spark, config.engine.name)
    source = input_ref(images, config)
    table = ImagesTable.check(tables.read(source), images, config)
    outputs = Outputs.of(config, output)
    require_current(tables, outputs.tables, output)
    shapes = {
        outputs.faces: faces_table(config.output, table.pass_through),
        outputs.image_results: IMAGE_RESULTS,
        outputs.runs: RUNS,
    }
    for ref, schema in shapes.items():
        tables.check(ref, schema)
    run = Run(images, config, provider.model_version(config))
    check_models(spark, config, provider)  # what does not load shall stop the run here, before tables are made
    for ref, schema in shapes.items():
        tables.ensure(ref, schema)
    night = _Night(tables, table, outputs, run, provider=provider, checkpoint=checkpoint)
    return night.run()


class _Night:
    def __init__(
        self,
        tables: Tables,
        images: ImagesTable,
        outputs: Outputs,
        run: Run,
        *,
        provider: AnalyzerProvider,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._tables = tables
        self._config = run.config
        self._images = images
        self._outputs = outputs
        self._provider = provider
        self._run = run
        self._checkpoint = checkpoint
        self._runs = RunsTable(tables, outputs.runs)
        self._staging = Staging(tables.spark, outputs.folder, run.run_id)
        self._log = log.bind(run_id=run.run_id)

    def run(self) -> Run:
        interrupted = self._runs.interrupt_others()
        if interrupted:
            self._log.warning("earlier runs were interrupted; their images are done again", runs=interrupted)
        self._staging.clear()
        self._runs.begin(self._run)
        try:
            self._count_duplicates()
            self._waves()
            if self._config.enrich.delete_missing:
                self._delete_missing()
        except Exception:
            self._runs.end(self._run, "failed")
            self._staging.clear()
            raise
        self._runs.end(self._run, "completed")
        self._staging.clear()
        return self._run

    def _count_duplicates(self) -> None:
        counts = (
            self._images.ids().agg(F.count(F.lit(1)).alias("n"), F.countDistinct("image_id").alias("unique")).first()
        )
        self._run.n_duplicate_rows = counts.n - counts.unique if counts else 0
        if self._run.n_duplicate_rows:
            self._log.warning("rows share an image_id; one of each counts", rows=self._run.n_duplicate_rows)

    def _pending(self) -> DataFrame:
        """Images without a result for their content, consent, configuration and model."""
        results = self._tables.read(self._outputs.image_results)
        done = results.where(
            (F.col("config_id") == self._config.config_id())
            & (F.col("model_version") == self._run.model_version)
            # A row that had a hash and no content may have its content tonight; nothing but a look can tell.
            & ~((F.col("status") == "missing") & F.col("content_sha256").isNotNull())
        ).select(
            F.col("image_id").alias("_id"),
            F.coalesce("content_sha256", F.lit("")).alias("_hash"),
            (F.col("status") != "not_consented").alias("_consented"),
        )
        keys = self._images.keys()
        same = (
            (keys["image_id"] == done["_id"])
            & (F.coalesce(keys["content_sha256"], F.lit("")) == done["_hash"])
            & (keys["consented"] == done["_consented"])
        )
        return keys.join(done, same, "left_anti").orderBy("image_id")

    def _waves(self) -> None:
        pending = self._staging.write("pending", self._pending())
        total = pending.count()
        self._checkpoint("planned")
        self._log.info("planned", pending=total)
        progress = Progress(total)
        pace = Pace(self._config.enrich.wave_images, self._config.enrich.wave_seconds)
        left, number = pending, 0
        while True:
            started = progress.seconds
            wave = left.orderBy("image_id").limit(pace.images)
            bounds = wave.agg(F.min("image_id").alias("first"), F.max("image_id").alias("last")).first()
            if bounds is None or bounds["first"] is None:
                return
            images, faces = self._wave(f"wave_{number}", left, bounds["first"], bounds["last"])
            self._log.info("wave", **progress.advance(images, faces))
            pace.learn(images, progress.seconds - started)
            left = pending.where(F.col("image_id") > bounds["last"])
            number += 1

    def _wave(self, name: str, left: DataFrame, first: str, last: str) -> tuple[int, int]:
        wave = Wave(
            name,
            first,
            last,
            self._images,
            self._config,
            self._provider,
            self._staging,
            self._run.run_id,
            self._run.model_version,
            datetime.now(UTC),
        )
        outcome, n_inferred = wave.run(
            left.where(F.col("image_id") <= last),
            left,
            self._tables.read(self._outputs.image_results),
            self._tables.read(self._outputs.faces),
        )
        self._checkpoint("staged")
        between = ("image_id", first, last)
        self._tables.merge(self._outputs.faces, outcome.faces, ["image_id", "face_index"], "_delete", between)
        self._checkpoint("faces")
        self._tables.merge(self._outputs.image_results, outcome.results, ["image_id"], None, between)
        self._checkpoint("results")
        images, faces = 0, 0
        for row in outcome.results.groupBy("status").agg(F.count(F.lit(1)), F.sum("n_faces")).collect():
            status, count, found = row
            self._run.counts[status] = self._run.counts.get(status, 0) + count
            images, faces = images + count, faces + found
        self._run.n_faces += faces
        self._run.n_inferred += n_inferred
        self._staging.remove(name)
        return images, faces

    def _delete_missing(self) -> None:
        """Deletes the rows of images that have left the table.

        image_results first: killed in between, an image that comes back is pending, and its faces are replaced.
        """
        results, faces = (self._tables.read(ref) for ref in (self._outputs.image_results, self._outputs.faces))
        known = results.select("image_id").union(faces.select("image_id")).distinct()
        gone = self._staging.write("gone", known.join(self._images.ids(), "image_id", "left_anti"))
        self._run.n_deleted_images = gone.count()
        if self._run.n_deleted_images:
            self._tables.delete(self._outputs.image_results, gone, "image_id")
            self._checkpoint("deleted")
            self._tables.delete(self._outputs.faces, gone, "image_id")
            self._log.info("deleted images that have left the table", images=self._run.n_deleted_images)
