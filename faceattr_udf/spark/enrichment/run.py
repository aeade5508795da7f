"""The night: images that have no result yet are inferred wave by wave and committed, each wave as a whole.

Two tables cannot commit together, so the order does it: a wave's faces are committed before its image_results. Killed
in between, its images are still pending and the next run replaces their faces. One run at a time holds the lease on an
output, so whatever another has left there is of a run that died.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Final, TypeVar

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import BusyError, EngineError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.enrichment.images_table import ImagesTable
from faceattr_udf.spark.enrichment.preflight import check_models
from faceattr_udf.spark.enrichment.progress import Progress
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.enrichment.wave_sizing import Pace
from faceattr_udf.spark.enrichment.waves import Wave
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import Outputs, input_ref
from faceattr_udf.spark.maintenance.migrations import require_current
from faceattr_udf.spark.runs import Run, RunsTable
from faceattr_udf.spark.schemas import IMAGE_RESULTS, RUNS, faces_table
from faceattr_udf.spark.tables import Tables
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzerProvider

_ENGINES: Final = {"pyspark", "py4j", "grpc", "delta"}
_LONGEST_WAIT: Final = 60

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


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

    One run at a time writes to an output: a second one is refused while the first is alive.

    Args:
        spark: A session of `config.engine`.
        config: The configuration.
        images: The images table: a path, a URI, or a catalogue name.
        output: The folder of the output tables and of the staging area.
        provider: Where analyzers come from.
        checkpoint: Called as the run passes a point between two commits: "leased", "created", "tidied", "begun",
            "planned", for every wave "staged", "faces" and "results", then "corrected", "deleted" and "ended".

    Returns:
        The run, as its row in the runs table says.

    Raises:
        BusyError: Another run is writing to the output, or has taken it over because this one stood still.
        EngineError: The engine failed more often than `enrich.wave_retries` allows; what was committed stays, and the
            next run continues.
        FaceattrError: Something else the user can correct; nothing has been written then.
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
    with Lease(outputs.folder, f"run {run.run_id}", config.runtime.lease_seconds) as lease:
        checkpoint("leased")
        for ref, schema in shapes.items():
            tables.ensure(ref, schema)
        checkpoint("created")
        night = _Night(tables, table, outputs, run, lease, provider=provider, checkpoint=checkpoint)
        return night.run()


class _Night:
    def __init__(
        self,
        tables: Tables,
        images: ImagesTable,
        outputs: Outputs,
        run: Run,
        lease: Lease,
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
        self._lease = lease
        self._checkpoint = checkpoint
        self._runs = RunsTable(tables, outputs.runs)
        self._staging = Staging(tables.spark, outputs.folder, run.run_id)
        self._log = log.bind(run_id=run.run_id)

    def run(self) -> Run:
        interrupted = self._runs.interrupt_others()
        if interrupted:
            self._log.warning("earlier runs were interrupted; their images are done again", runs=interrupted)
        self._staging.clear()
        self._checkpoint("tidied")
        self._runs.begin(self._run)
        self._checkpoint("begun")
        try:
            self._tried(self._count_duplicates)
            self._waves()
            if self._config.enrich.delete_missing:
                self._tried(self._delete_missing)
            self._lease.check()
            self._runs.end(self._run, "completed")
        except Exception as error:
            self._fail()
            if not _engine_failed(error):
                raise
            self._log.exception("the engine failed")
            msg = f"the engine failed ({first_line(error)}); what was committed stays, run it again and it continues"
            raise EngineError(msg) from error
        self._checkpoint("ended")
        self._staging.clear()
        return self._run

    def _fail(self) -> None:
        try:
            self._lease.check()
        except BusyError:
            return  # the output is another's now, who has marked this run as interrupted and removed what it staged
        try:
            self._runs.end(self._run, "failed")
        except Exception as error:  # the engine itself may be what has failed, and that is told already
            self._log.warning("the end of the run cannot be recorded", reason=first_line(error))
        self._staging.clear()

    def _tried(self, step: Callable[[], _T]) -> _T:
        """Takes a step that may be repeated, and repeats it when the engine fails, as `enrich.wave_retries` allows."""
        for attempt in range(self._config.enrich.wave_retries):
            try:
                return step()
            except Exception as error:
                if not _engine_failed(error):
                    raise
                seconds = min(2**attempt, _LONGEST_WAIT)
                self._run.n_retries += 1
                self._log.warning("the engine failed; once more", seconds=seconds, reason=first_line(error))
                time.sleep(seconds)
        return step()

    def _count_duplicates(self) -> None:
        counts = (
            self._images.ids().agg(F.count(F.lit(1)).alias("n"), F.countDistinct("image_id").alias("unique")).first()
        )
        self._run.n_duplicate_rows = counts.n - counts.unique if counts else 0
        if self._run.n_duplicate_rows:
            self._log.warning("rows share an image_id; one of each counts", rows=self._run.n_duplicate_rows)

    def _planned(self) -> DataFrame:
        """Images without a result for their content, consent, configuration and model.

        And, `_corrected`, those that have it and whose columns that pass through are not those of their faces any more.
        """
        results = self._tables.read(self._outputs.image_results)
        done = results.where(
            (F.col("config_id") == self._config.config_id())
            & (F.col("model_version") == self._run.model_version)
            # A row that had a hash and no content may have its content tonight; nothing but a look can tell.
            & ~((F.col("status") == "missing") & F.col("content_sha256").isNotNull())
        ).select(
            F.col("image_id").alias("_done_id"),
            F.coalesce("content_sha256", F.lit("")).alias("_hash"),
            (F.col("status") != "not_consented").alias("_consented"),
        )
        keys = self._images.keys()
        same = (
            (keys["image_id"] == done["_done_id"])
            & (F.coalesce(keys["content_sha256"], F.lit("")) == done["_hash"])
            & (keys["consented"] == done["_consented"])
        )
        passed = self._images.comparable
        # All faces of an image have the same.
        faces = self._tables.read(self._outputs.faces).where(F.col("face_index") == 0)
        faces = faces.select(
            F.col("image_id").alias("_face_of"), *(F.col(name).alias(f"_was_{name}") for name in passed)
        )
        differs = reduce(or_, (~F.col(name).eqNullSafe(F.col(f"_was_{name}")) for name in passed), F.lit(False))
        return (
            keys.join(done, same, "left")
            .join(faces, F.col("image_id") == F.col("_face_of"), "left")
            .withColumn("_corrected", F.col("_done_id").isNotNull())
            .where(~F.col("_corrected") | (F.col("_face_of").isNotNull() & differs))
            .select(*keys.columns, "_corrected")
            .orderBy("image_id")
        )

    def _waves(self) -> None:
        planned = self._tried(lambda: self._staging.write("planned", self._planned()))
        pending = planned.where("NOT _corrected").drop("_corrected")
        total = self._tried(pending.count)
        self._checkpoint("planned")
        self._log.info("planned", pending=total)
        progress = Progress(total)
        pace = Pace(self._config.enrich.wave_images, self._config.enrich.wave_seconds)
        left, number = pending, 0
        while True:
            started = progress.seconds
            wave = left.orderBy("image_id").limit(pace.images)
            ends = wave.agg(F.min("image_id").alias("first"), F.max("image_id").alias("last"))
            bounds = self._tried(ends.first)
            if bounds is None or bounds["first"] is None:
                break
            images, faces = self._wave(f"wave_{number}", left, bounds["first"], bounds["last"])
            self._log.info("wave", **progress.advance(images, faces))
            pace.learn(images, progress.seconds - started)
            left = pending.where(F.col("image_id") > bounds["last"])
            number += 1
        self._tried(lambda: self._correct(planned.where("_corrected")))

    def _correct(self, images: DataFrame) -> None:
        """Gives faces, as they are otherwise, the columns that pass through from these images."""
        count = images.count()
        if not count:
            return
        faces = self._tables.read(self._outputs.faces)
        passed = [field.name for field in self._images.pass_through]
        rows = faces.drop(*passed).join(images.select("image_id", *passed), "image_id").select(*faces.columns)
        staged = self._staging.write("corrected", rows)
        self._lease.check()
        self._tables.merge(self._outputs.faces, staged, ["image_id", "face_index"])
        self._checkpoint("corrected")
        self._log.info("corrected columns that pass through", images=count)

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
        faces, results = self._outputs.faces, self._outputs.image_results
        pending = left.where(F.col("image_id") <= last)
        outcome, n_inferred = self._tried(
            lambda: wave.run(pending, left, self._tables.read(results), self._tables.read(faces))
        )
        self._checkpoint("staged")
        between = ("image_id", first, last)
        self._lease.check()
        self._tried(lambda: self._tables.merge(faces, outcome.faces, ["image_id", "face_index"], "_delete", between))
        self._checkpoint("faces")
        self._lease.check()
        self._tried(lambda: self._tables.merge(results, outcome.results, ["image_id"], None, between))
        self._checkpoint("results")
        n_images, n_faces = 0, 0
        counts = outcome.results.groupBy("status").agg(F.count(F.lit(1)), F.sum("n_faces"))
        for row in self._tried(counts.collect):
            status, count, found = row
            self._run.counts[status] = self._run.counts.get(status, 0) + count
            n_images, n_faces = n_images + count, n_faces + found
        self._run.n_faces += n_faces
        self._run.n_inferred += n_inferred
        self._staging.remove(name)
        return n_images, n_faces

    def _delete_missing(self) -> None:
        """Deletes the rows of images that have left the table.

        image_results first: killed in between, an image that comes back is pending, and its faces are replaced.
        """
        results, faces = (self._tables.read(ref) for ref in (self._outputs.image_results, self._outputs.faces))
        known = results.select("image_id").union(faces.select("image_id")).distinct()
        gone = self._staging.write("gone", known.join(self._images.ids(), "image_id", "left_anti"))
        self._run.n_deleted_images = gone.count()
        if self._run.n_deleted_images:
            self._lease.check()
            self._tables.delete(self._outputs.image_results, gone, "image_id")
            self._checkpoint("deleted")
            self._tables.delete(self._outputs.faces, gone, "image_id")
            self._log.info("deleted images that have left the table", images=self._run.n_deleted_images)


def _engine_failed(error: Exception) -> bool:
    """Whether an error is the engine's, which may pass, and not this program's."""
    return isinstance(error, OSError) or bool(_ENGINES & {kind.__module__.split(".")[0] for kind in type(error).mro()})
