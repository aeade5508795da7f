"""The nightly run: infers the images without a result in waves, and commits each wave as a whole.

Delta cannot commit to two tables at once, so a wave's faces are committed before its image_results. If the run is
killed in between, those images are still pending and the next run replaces their faces. Only one run at a time holds
the lease on an output, so everything unfinished that a run finds there was left by a killed one.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Final, TypeVar

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import ArgumentError, BusyError, EngineError
from faceattr_udf.privacy import assess
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.engine_errors import explained, is_engine_error, is_transient, reason
from faceattr_udf.spark.enrichment.column_changes import ColumnChanges
from faceattr_udf.spark.enrichment.commits import WaveCommits, WaveCounts
from faceattr_udf.spark.enrichment.consents import ConsentTable
from faceattr_udf.spark.enrichment.images_table import ImagesTable
from faceattr_udf.spark.enrichment.planning import KEPT_OUT, NightPlan, Planner, key_scans
from faceattr_udf.spark.enrichment.preflight import check_models
from faceattr_udf.spark.enrichment.progress import NoListener, ProgressListener, Throughput
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.enrichment.wave_bounds import next_wave
from faceattr_udf.spark.enrichment.wave_sizing import WaveSizer
from faceattr_udf.spark.enrichment.waves import RunContext, StagedWave, Wave
from faceattr_udf.spark.erasure_requests import Request, RequestFolder
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.input_columns import wanted_columns
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import Outputs, TableRef, input_ref
from faceattr_udf.spark.maintenance.migrations import check_schema_version
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.parquet_input import InputFrames
from faceattr_udf.spark.retries import retry_transient
from faceattr_udf.spark.runs import Run, RunsTable
from faceattr_udf.spark.schemas import IMAGE_RESULTS, RUNS
from faceattr_udf.spark.store_places import check_store_place
from faceattr_udf.spark.table_details import TableDetails, check_details
from faceattr_udf.spark.tables import Tables
from faceattr_udf.spark.tombstone_table import TombstoneTable, covered
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzerProvider

_GIVEN: Final = TableRef("(DataFrame)", "table")
"""Stands for the location of images that the caller gives as a DataFrame."""

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


def _name(images: str | DataFrame) -> str:
    return images if isinstance(images, str) else str(_GIVEN)


def enrich(
    spark: SparkSession,
    config: Config,
    images: str | DataFrame,
    output: str,
    *,
    provider: AnalyzerProvider = DEFAULT_PROVIDER,
    progress: ProgressListener | None = None,
) -> Run:
    """Finds the faces of an images table, and writes the tables image_results, faces and runs.

    Only one run at a time writes to an output; a second one is refused while the first is alive.

    Args:
        spark: A session, from `start` or the caller's own; `config.engine` need not fit it. A DataFrame brings its own.
        config: The configuration.
        images: The images table: a path, a URI, a catalog name, or a DataFrame with the columns of such a table. A
            DataFrame is evaluated several times. A batch of a stream is not the whole catalogue: leave
            `enrich.delete_missing` off.
        output: The folder of the output tables and of the staging area.
        provider: Loads analyzers.
        progress: Is told the number of pending images, and each committed wave.

    Returns:
        The run, as recorded in the runs table.

    Raises:
        BusyError: Another run is writing to the output, or has taken it over because this one did not respond.
        EngineError: The engine failed more often than `enrich.wave_retries` allows. Committed waves are kept, and the
            next run continues.
        FaceattrError: The user can correct the cause; nothing has been written.
    """
    session = spark if isinstance(images, str) else images.sparkSession
    if not isinstance(images, str) and images.isStreaming:
        msg = "the images are a stream; call enrich for each of its batches, in a function that foreachBatch takes"
        raise ArgumentError(msg)
    with adopted(session, config) as fitting:
        return EnrichmentRun(session, fitting, images, output, provider=provider).execute(progress)


class EnrichmentRun:
    """One run over an images table. Creating it checks the tables and writes nothing; `execute` is called once."""

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        images: str | DataFrame,
        output: str,
        *,
        provider: AnalyzerProvider = DEFAULT_PROVIDER,
        on_step: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Checks the tables.

        Args:
            spark: As for `enrich`.
            config: As for `enrich`.
            images: As for `enrich`.
            output: As for `enrich`.
            provider: As for `enrich`.
            on_step: For tests. Called with "leased", "created", "tidied", "begun" and "planned", for every wave with
                "staged", "faces" and "results", and with "backfilled", "deleted" and "ended".

        Raises:
            FaceattrError: The policy refuses the configuration, or a table is missing or has the wrong columns.
        """
        assessment = assess(config, datetime.now(UTC).date())
        self._config = config = assessment.config
        # Every attempt of a commit checks the lease first: the run may have been suspended and replaced in between.
        self._tables = Tables(spark, config.engine.name, before_commit=self._check_lease)
        with explained("the tables cannot be read", "check their locations and the access to them"):
            self._check_tables(spark, images, output)
        self._run = Run(_name(images), config, provider.model_version(config), assessment=assessment)
        self._lease = Lease(self._outputs.folder, f"run {self._run.run_id}", config.runtime.lease_seconds)
        self._runs = RunsTable(self._tables, self._outputs.runs)
        self._staging = Staging(spark, self._outputs.folder, self._run.run_id)
        self._provider = provider
        self._on_step = on_step
        self._log = log.bind(run_id=self._run.run_id)

    def _check_tables(self, spark: SparkSession, images: str | DataFrame, output: str) -> None:
        config = self._config
        images_ref = input_ref(qualified(spark, images), config) if isinstance(images, str) else _GIVEN
        self._outputs = Outputs.of(config, qualified(spark, output))
        self._outputs.refuse_overlap(images_ref)
        for place in (self._outputs.folder, *(ref.location for ref in self._outputs.tables.values())):
            check_store_place(config.engine.name, place)
        frames = (
            self._tables.read_images(images_ref, wanted_columns(config))
            if isinstance(images, str)
            else InputFrames(images)
        )
        self._images = ImagesTable.check(frames, images_ref, _name(images), config)
        self._images.probe()
        self._consents = ConsentTable.open(self._tables, config)
        self._tombstones = TombstoneTable(self._tables, config, self._outputs.folder).load()
        check_schema_version(self._tables, self._outputs.tables, output)
        features = {ref: self._tables.features(ref) for ref in self._outputs.tables.values()}
        for ref, of_table in features.items():
            self._tables.check_writable(ref)
            of_table.refuse(ref, config.engine.name)
        found = self._tables.find(self._outputs.faces)
        self._changes = ColumnChanges.of(
            str(self._outputs.faces),
            found.schema if found else None,
            config.output,
            self._images.pass_through,
            features[self._outputs.faces].generated,
        )
        self._schemas = {
            self._outputs.faces: self._changes.schema,
            self._outputs.image_results: IMAGE_RESULTS,
            self._outputs.runs: RUNS,
        }
        check_details(config.output, self._schemas.values())
        for ref in (self._outputs.image_results, self._outputs.runs):
            self._tables.check(ref, self._schemas[ref])

    def execute(self, progress: ProgressListener | None = None) -> Run:
        """Runs, as `enrich` describes."""
        check_models(self._tables.spark, self._config, self._provider)
        with self._lease:
            self._on_step("leased")
            for warning in self._run.warnings:
                self._log.warning("policy", says=warning)
            rate = self._prepare_output()
            self._runs.begin(self._run)
            self._on_step("begun")
            try:
                self._process_pending(progress or NoListener(), rate)
                if self._config.enrich.delete_missing:
                    self._with_retry(self._delete_missing)
                self._runs.end(self._run, "completed")
            except Exception as error:
                self._record_failure()
                if not (is_engine_error(error) or isinstance(error, OSError)):
                    raise
                self._log.exception("run_failed")
                what = "the engine failed" if is_engine_error(error) else "the run failed"
                fix = "run it again to continue" if is_transient(error) else "correct the cause before the next run"
                msg = f"{what} ({reason(error)}); committed waves are kept, {fix}"
                raise EngineError(msg) from error
            self._on_step("ended")
            self._staging.clear()
            return self._run

    def _check_lease(self) -> None:
        self._lease.check()

    def _prepare_output(self) -> float | None:
        """Creates missing tables, cleans up after killed runs, and returns the images per second of an earlier run."""
        with explained("the output tables cannot be prepared", "check the locations and the access to them"):
            self._changes.apply(self._tables, self._outputs.faces)
            for name, ref in self._outputs.tables.items():
                details = TableDetails(name, self._config.output, self._config.engine.name)
                self._tables.ensure(ref, self._schemas[ref], details)
        self._on_step("created")
        interrupted, rate = self._runs.mark_stale_runs(self._run.model_version)
        if interrupted:
            self._log.warning("runs_interrupted", run_ids=interrupted)
        self._staging.clear()
        self._on_step("tidied")
        return rate

    def _record_failure(self) -> None:
        try:
            self._lease.check()
        except BusyError:
            return  # another run has taken over this output and cleaned up after this one
        try:
            self._runs.end(self._run, "failed")
        except Exception as error:  # the engine may be gone; the error that ended the run matters more
            self._log.warning("run_end_not_recorded", reason=reason(error))
        self._staging.clear()

    def _with_retry(self, step: Callable[[], _T]) -> _T:
        """Takes a step that may be repeated, and repeats it after engine errors as `enrich.wave_retries` allows."""

        def report(error: BaseException, seconds: float) -> None:
            self._run.n_retries += 1
            self._log.warning("engine_error_retry", seconds=round(seconds, 1), reason=reason(error))

        return retry_transient(step, self._config.enrich.wave_retries, report)

    def _plan(self) -> NightPlan:
        """Decides who has consented, plans the night, and says in the log what it found."""
        if self._consents is not None:
            # Once per run, so that all waves and a repeated plan agree.
            agreed = self._consents.subjects(self._run.started_at)
            self._images = replace(
                self._images, consents=self._with_retry(lambda: self._staging.write("consents", agreed))
            )
        self._keep_out()
        planner = Planner(self._images, self._staging, self._run, self._tombstones)
        results, faces = self._outputs.image_results, self._outputs.faces
        plan = self._with_retry(lambda: planner.plan(self._tables.read(results), self._tables.read(faces)))
        self._on_step("planned")
        self._run.n_duplicate_rows = plan.n_duplicate_rows
        if plan.n_duplicate_rows:
            self._log.warning("duplicate_image_ids", rows_ignored=plan.n_duplicate_rows)
        if plan.n_lost:
            self._log.warning("faces_lost", images=plan.n_lost, table=str(faces))
        self._log.info("run_planned", pending=plan.n_pending)
        self._request_purge(plan)
        return plan

    def _request_purge(self, plan: NightPlan) -> None:
        """Leaves a request for faces whose consent was withdrawn: this run deletes their rows, not the old files.

        `faceattr erase --due` fulfils it.
        """
        asked = self._consents is not None or self._config.input.require_consent
        if not plan.n_pending or not asked:
            return
        withdrawn = plan.pending.where("NOT consented AND has_faces AND kept_out IS NULL").select("image_id")
        ids = sorted(row["image_id"] for row in self._with_retry(withdrawn.collect))
        if ids:
            request = Request(kind="withdrawn", image_ids=tuple(ids), n_asked=len(ids))
            try:
                RequestFolder(self._outputs.folder).write(request)
            except (EngineError, OSError) as error:
                self._log.warning("erasure_not_requested", reason=str(error), advice="run faceattr maintain vacuum")
            else:
                self._log.info("erasure_due", images=len(ids), advice="run faceattr erase --due")

    def _keep_out(self) -> None:
        """Finds erased and expired images before hashes are computed, which would read their contents."""
        unread = self._images.ids_to_hash()
        if unread is None or not (self._tombstones or self._config.privacy.retention_days):
            return

        def find() -> DataFrame:
            done = self._tables.read(self._outputs.image_results).where(F.col("status").isin(*KEPT_OUT))
            ids = done.select("image_id")
            if self._tombstones is not None:
                unknown = unread.withColumn("content_sha256", F.lit(None).cast("string"))
                ids = ids.unionByName(covered(unknown, self._tombstones))
            return self._staging.write("kept_out", ids.distinct())

        found = self._with_retry(find)
        if found.limit(1).count():
            self._images = replace(self._images, kept_out=found)

    def _process_pending(self, progress: ProgressListener, rate: float | None) -> None:
        """Infers and commits the pending images wave by wave, then backfills pass-through columns.

        On Spark a wave is committed while the next one is inferred: a commit keeps few cores busy, and its tasks fill
        those that the last tasks of an inference leave free. Waves are committed in order, one at a time. The embedded
        engine has no cores to spare.
        """
        plan = self._plan()
        context = RunContext(self._images, self._provider, self._staging, self._run, self._changes.kept)
        progress.planned(plan.n_pending)
        throughput = Throughput(plan.n_pending)
        most = self._config.enrich.wave_images
        sizer = WaveSizer(most, self._config.enrich.wave_seconds, rate)

        def finish(committing: Future[WaveCounts]) -> None:
            counts = committing.result()
            self._log.info("wave_committed", **throughput.add(*counts))
            progress.wave_committed(*counts)

        wave_commits = WaveCommits(
            self._tables, self._outputs, self._staging, self._run, self._with_retry, self._on_step
        )
        left, number = plan.slices, 0
        # If a step fails, leaving the block waits for the commit that is under way.
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit") as commits:
            committing: Future[WaveCounts] | None = None
            while left:
                started = throughput.seconds
                n_taken = next_wave(left, sizer.images, most)
                part = reduce(or_, left[:n_taken])
                wave = Wave(context, f"wave_{number}", part, datetime.now(UTC))
                staged = self._stage(wave, plan.pending)
                if committing is not None:
                    finish(committing)
                committing = commits.submit(wave_commits.commit, wave, staged)
                if self._config.engine.name == "sail":
                    finish(committing)
                    committing = None
                sizer.update(part.n_images, throughput.seconds - started)
                left, number = left[n_taken:], number + 1
            if committing is not None:
                finish(committing)
        if plan.backfill is not None:
            images_to_fill = plan.backfill
            self._with_retry(lambda: self._backfill_columns(images_to_fill))

    def _stage(self, wave: Wave, pending: DataFrame) -> StagedWave:
        """Infers a wave.

        It reads only rows of the output tables that no other wave of this run writes: those of its own images, and of
        images that are not pending.
        """
        faces, results, part = self._outputs.faces, self._outputs.image_results, wave.part

        def stage() -> StagedWave:
            reads_faces = part.reused is not None or part.n_described > 0
            return wave.stage(
                pending,
                self._tables.read(results) if part.reused is not None else None,
                self._tables.read(faces) if reads_faces else None,
            )

        staged = self._with_retry(stage)
        self._on_step("staged")
        return staged

    def _backfill_columns(self, images: DataFrame) -> None:
        """Copies the pass-through columns of images to their faces."""
        faces = self._tables.read(self._outputs.faces)
        passed = self._images.keys_of_pass_through
        new = images.select("image_id", *passed.values())
        columns = [F.col(passed[name]).alias(name) if name in passed else F.col(quoted(name)) for name in faces.columns]
        rows = faces.join(new, "image_id").select(*columns)
        staged = self._staging.write("backfilled", rows)
        self._tables.merge(self._outputs.faces, staged, ["image_id", "face_index"])
        self._on_step("backfilled")
        self._log.info("columns_backfilled", images=images.count())

    def _delete_missing(self) -> None:
        """Deletes the results of images that are no longer in the images table.

        image_results are deleted first: if the run is killed in between and such an image comes back, it is pending and
        its faces are replaced.
        """
        results, faces = (self._tables.read(ref) for ref in (self._outputs.image_results, self._outputs.faces))
        known = results.select("image_id").union(faces.select("image_id")).distinct()
        with key_scans(self._tables.spark, self._config.engine.name):
            gone = self._staging.write("gone", known.join(self._images.ids(), "image_id", "left_anti"))
        self._run.n_deleted_images = gone.count()
        if self._run.n_deleted_images:
            self._tables.delete(self._outputs.image_results, gone, "image_id")
            self._on_step("deleted")
            self._tables.delete(self._outputs.faces, gone, "image_id")
            self._log.info("missing_images_deleted", images=self._run.n_deleted_images)
