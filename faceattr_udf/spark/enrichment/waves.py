"""A wave: the images that are inferred and committed together."""

import os
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, reduce
from typing import Final

import structlog
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import StringType, StructField, StructType

from faceattr_udf.config import Config
from faceattr_udf.results import ERASED, EXPIRED, NO_CONSENT, NO_CONTENT, ImageStatus
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.enrichment.images_table import ImagesTable
from faceattr_udf.spark.enrichment.planning import between
from faceattr_udf.spark.enrichment.scan_sizes import mean_content_bytes, rows_per_scan
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.enrichment.wave_bounds import IdRange, PlanSlice
from faceattr_udf.spark.input_columns import DELETE_FLAG, SUBJECT, WORK_PREFIX
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.schemas import IMAGE_RESULTS, face_struct, faces_table, result_struct
from faceattr_udf.spark.udf import AnalyzeBatches, AnalyzerProvider

log = structlog.get_logger(__name__)

_IS_NEW: Final = f"{WORK_PREFIX}new"

_VALUES: Final = ("status", "error", "width", "height", "n_faces")
"""Columns of image_results that are inferred or reused."""


@dataclass(frozen=True)
class RunContext:
    """What all waves of a run share.

    Attributes:
        images: The images table.
        provider: Loads analyzers.
        staging: The staging area of the run.
        run: The run, with its id, configuration and model version.
        kept: Columns of the faces table that the images table no longer has.
    """

    images: ImagesTable
    provider: AnalyzerProvider
    staging: Staging
    run: Run
    kept: tuple[StructField, ...] = ()

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.run.config

    @cached_property
    def rows_per_scan(self) -> int | None:
        """The most images that one scan of the embedded engine reads; None for any number of them."""
        if self.config.engine.name != "sail":
            return None  # Spark reads files in parts of bounded size
        ref = self.images.ref
        if ref.format == "table":
            return None
        return rows_per_scan(mean_content_bytes(ref.location, self.config.input.columns.content), self.config.enrich)


@dataclass(frozen=True)
class StagedWave:
    """The rows that a wave commits, in the staging area.

    Attributes:
        results: Rows of image_results.
        faces: Rows of faces, and `DELETE_FLAG`: true for existing rows of the wave's images that must be deleted.
        n_inferred: Distinct contents that were inferred.
    """

    results: DataFrame
    faces: DataFrame
    n_inferred: int


@dataclass(frozen=True)
class Wave:
    """Consecutive images of a plan.

    Attributes:
        context: The run.
        name: Its folder in the staging area.
        part: Its part of the plan.
        processed_at: The timestamp of all its rows.
    """

    context: RunContext
    name: str
    part: PlanSlice
    processed_at: datetime

    def stage(self, pending: DataFrame, results: DataFrame | None, faces: DataFrame | None) -> StagedWave:
        """Infers the contents that have no result yet, and stages the rows to commit.

        Args:
            pending: The plan, as `NightPlan.pending`.
            results: The image_results table; None if the wave reuses none of them.
            faces: The faces table; None if the wave reuses and replaces none of them.
        """
        plan = pending.where(between(self.part.first, self.part.last))
        analyzed, n_inferred = self._infer(plan)
        new_results = self._write("results", self._results(plan, analyzed, results))
        new_faces = self._write("faces", self._faces(plan, analyzed, new_results, faces))
        return StagedWave(new_results.select(*IMAGE_RESULTS.fieldNames()), new_faces, n_inferred)

    def _write(self, name: str, frame: DataFrame) -> DataFrame:
        return self.context.staging.write(f"{self.name}/{name}", frame)

    def _infer(self, plan: DataFrame) -> tuple[DataFrame, int]:
        """Infers every content without a reuse source once.

        Of rows with the same hash one is read. If it has no content, or its content has changed since planning, the
        next row with that hash is tried in another round.

        Returns:
            image_id, content_sha256 and the columns of `result_struct`, with status missing for rows that were read in
            vain; and the number of distinct contents inferred.
        """
        shape = StructType([StructField("image_id", StringType()), *result_struct(self.context.config.output)])
        spark = plan.sparkSession
        analyzed = spark.createDataFrame([], StructType([*shape, StructField("content_sha256", StringType())]))
        sources, n_wanted = plan.where("is_source"), self.part.n_sources
        scans = self._planned_scans(sources) or self._scans(sources)
        n_inferred, number = 0, 0
        tried = sources
        while scans:
            # Inference happens in this write and nowhere else.
            inferred = [self._analyze(scan, shape) for scan in scans]
            at_once = (os.cpu_count() or 1) if self.context.rows_per_scan else len(inferred)
            parts = [
                self._write(
                    f"analyzed_{number}_{first}", reduce(DataFrame.unionByName, inferred[first : first + at_once])
                )
                for first in range(0, len(inferred), at_once)
            ]
            written = reduce(DataFrame.unionByName, parts)
            analyzed = analyzed.unionByName(written.join(sources.select("image_id", "content_sha256"), "image_id"))
            n_found = written.where("status <> 'missing'").count()
            n_inferred += n_found
            if n_found == n_wanted:
                break
            number += 1
            settled = analyzed.where("status <> 'missing'").select("content_sha256")
            todo = plan.where("consented AND content_sha256 IS NOT NULL AND reuse_source IS NULL")
            todo = todo.join(settled, "content_sha256", "left_anti").join(
                tried.select("image_id"), "image_id", "left_anti"
            )
            by_hash = Window.partitionBy("content_sha256").orderBy("by_content", "file", "image_id")
            chosen = todo.withColumn("_rank", F.row_number().over(by_hash)).where("_rank = 1")
            kept = ("image_id", "content_sha256", "by_content", "file")
            names = [name for name in chosen.columns if name in {*kept, SUBJECT}]
            sources = self._write(f"sources_{number}", chosen.select(*names))
            tried = tried.select("image_id").unionByName(sources.select("image_id"))
            n_wanted = sources.count()
            scans = self._scans(sources) if n_wanted else []
        return analyzed, n_inferred

    def _planned_scans(self, sources: DataFrame) -> list[DataFrame]:
        """Returns the scan for which the plan tells enough; none if there is more to know, or nothing to read."""
        part, config = self.part, self.context.config
        if part.sources is None or part.n_by_content or config.enrich.partitions or config.engine.name == "sail":
            return []
        return [self.context.images.contents(sources, part.sources, part.files)]

    def _scans(self, sources: DataFrame) -> list[DataFrame]:
        """Returns scans of the images table that run in parallel; none if there is nothing to read."""
        config, images = self.context.config, self.context.images
        if self.part.sources is None:
            return []
        if self.context.rows_per_scan:
            return self._small_scans(sources, self.context.rows_per_scan)
        n_tiles = config.enrich.partitions
        if not n_tiles:
            # Spark itself splits files among its cores; the embedded engine reads a Parquet file in one thread.
            n_tiles = (os.cpu_count() or 1) if config.engine.name == "sail" else 1
        # A window over a whole wave's keys fits one task. Images that are found by content are read in one scan.
        by_file = Window.partitionBy("by_content").orderBy("file", "image_id")
        tile = F.ntile(n_tiles).over(by_file) if n_tiles > 1 else F.lit(1)
        tiles = sources.withColumn("_tile", F.when(F.col("by_content"), F.lit(0)).otherwise(tile))
        of_file = tiles.groupBy("by_content", "_tile", "file").agg(
            F.min("image_id").alias("first"), F.max("image_id").alias("last")
        )
        ids: dict[tuple[bool, int], IdRange] = {}
        files: dict[tuple[bool, int], set[str]] = {}
        for row in of_file.collect():
            key, found = (row["by_content"], row["_tile"]), IdRange(row["first"], row["last"])
            ids[key] = ids[key] | found if key in ids else found
            files.setdefault(key, set()).add(row["file"])
        scans = []
        for key in sorted(ids):
            if key[0]:
                scans.append(images.contents_by_hash(sources.where("by_content"), ids[key], files[key]))
            else:
                inside = tiles.where(~F.col("by_content") & (F.col("_tile") == key[1]))
                scans.append(images.contents(inside, ids[key], files[key]))
        return scans

    def _small_scans(self, sources: DataFrame, rows: int) -> list[DataFrame]:
        """Returns scans as `_scans` does, each of at most `rows` images that their image_id identifies."""
        images = self.context.images
        keys = sources.select("image_id", "by_content").collect()
        ids = sorted(key["image_id"] for key in keys if not key["by_content"])
        scans = []
        for start in range(0, len(ids), rows):
            some = ids[start : start + rows]
            inside = sources.where(~F.col("by_content") & F.col("image_id").between(some[0], some[-1]))
            scans.append(images.contents(inside, IdRange(some[0], some[-1]), (), some))
        if len(ids) < len(keys):
            log.warning(
                "large_images_without_own_id",
                images=len(keys) - len(ids),
                reason=f"they are read in the engine's batches of {self.context.config.enrich.max_batch_rows} images",
                advice=f"set enrich.max_batch_rows={rows} if memory is short, or give every image its own image_id",
            )
            others = [key["image_id"] for key in keys if key["by_content"]]
            few = sources.where("by_content")
            scans.append(images.contents_by_hash(few, IdRange(min(others), max(others)), ()))
        return scans

    def _analyze(self, contents: DataFrame, shape: StructType) -> DataFrame:
        analyze = AnalyzeBatches(
            config_json=self.context.config.model_dump_json(),
            provider=self.context.provider,
            keep=("image_id",),
            content="content",
            unique="image_id",
        )
        return contents.mapInArrow(analyze.__call__, shape)

    def _results(self, plan: DataFrame, analyzed: DataFrame, results: DataFrame | None) -> DataFrame:
        """Returns the image_results rows of the plan's images, and where their faces come from.

        Faces come from `inferred_source`, an image_id in `analyzed`, or from `reuse_source`, one in the faces table.
        """
        joined = _join_values(plan, analyzed, self._reused(results))
        has_content = F.col("consented") & ~F.col("_absent")
        too_large = F.col("bytes_left_out") > self.context.config.images.max_bytes
        left_out = F.when(too_large, F.lit(str(ImageStatus.TOO_LARGE)))
        status = (
            F.when(F.col("kept_out").isNotNull(), F.col("kept_out"))
            .when(~F.col("consented"), F.lit(str(ImageStatus.NOT_CONSENTED)))
            .when(F.col("_absent"), F.lit(str(ImageStatus.MISSING)))
            # Without any of these there is no hash, or the row has left the table since the run began.
            .otherwise(F.coalesce("_new_status", "_reused_status", left_out, F.lit(str(ImageStatus.MISSING))))
        )
        n_faces = F.when(has_content, F.coalesce("_new_n_faces", "_reused_n_faces", F.lit(0))).otherwise(F.lit(0))
        return joined.select(
            "image_id",
            # Of an erased image nothing is kept but its id, which the images table holds anyway.
            F.when(status != str(ImageStatus.ERASED), F.col("content_sha256")).alias("content_sha256"),
            status.alias("status"),
            self._error(status, too_large).alias("error"),
            *(F.when(has_content, F.coalesce(f"_new_{n}", f"_reused_{n}")).alias(n) for n in ("width", "height")),
            n_faces.cast("int").alias("n_faces"),
            *self._provenance(),
            F.when(has_content, F.col("inferred_source")).alias("inferred_source"),
            F.when(has_content, F.col("reuse_source")).alias("reuse_source"),
        )

    def _error(self, status: Column, too_large: Column) -> Column:
        limit = self.context.config.images.max_bytes
        size = F.col("bytes_left_out").cast("string")
        return (
            F.when(status == str(ImageStatus.NOT_CONSENTED), F.lit(NO_CONSENT))
            .when(status == str(ImageStatus.ERASED), F.lit(ERASED))
            .when(status == str(ImageStatus.EXPIRED), F.lit(EXPIRED))
            .when(status == str(ImageStatus.MISSING), F.lit(NO_CONTENT))
            .otherwise(
                F.coalesce(
                    "_new_error",
                    "_reused_error",
                    F.when(too_large, F.concat(size, F.lit(f" bytes are more than images.max_bytes = {limit}"))),
                )
            )
        )

    def _reused(self, table: DataFrame | None) -> DataFrame | None:
        """Returns the rows of an output table that the wave may reuse."""
        ids = self.part.reused
        if table is None or ids is None:
            return None
        return _inside(table, ids)

    def _faces(self, plan: DataFrame, analyzed: DataFrame, results: DataFrame, faces: DataFrame | None) -> DataFrame:
        """Returns the faces rows of the plan's images, and the keys of existing rows to delete."""
        output, images = self.context.config.output, self.context.images
        keys = plan.select("image_id", *images.keys_of_pass_through.values())
        columns = faces_table(output, images.pass_through).fieldNames()
        face_columns = face_struct(output).fieldNames()
        described = analyzed.select(F.col("image_id").alias("inferred_source"), F.explode("faces").alias("_face"))
        described = described.select("inferred_source", *(F.col(f"_face.{name}").alias(name) for name in face_columns))
        inferred = results.where("inferred_source IS NOT NULL").select("image_id", "inferred_source")
        new = inferred.join(described, "inferred_source").select("image_id", *face_columns)
        reusable = self._reused(faces)
        if reusable is not None:
            committed = reusable.select(F.col("image_id").alias("reuse_source"), *face_columns)
            reused = results.where("reuse_source IS NOT NULL").select("image_id", "reuse_source")
            new = new.unionByName(reused.join(committed, "reuse_source").select("image_id", *face_columns))
        new = new.join(keys, "image_id")
        passed = [F.col(key).alias(name) for name, key in images.keys_of_pass_through.items()]
        new = new.select("image_id", *face_columns, *self._provenance(), *passed)
        kept = [F.lit(None).cast(field.dataType).alias(field.name) for field in self.context.kept]
        names = [F.col(quoted(name)) for name in columns]
        if faces is None or not self.part.n_described:
            return new.select(*names, *kept, F.lit(False).alias(DELETE_FLAG))
        described_before = plan.where("has_faces").select("image_id")
        old = (
            _inside(faces, self.part.ids)
            .join(described_before, "image_id", "left_semi")
            .select("image_id", "face_index")
        )
        # Of a face that no longer exists only the key is given.
        return (
            new.withColumn(_IS_NEW, F.lit(True))
            .join(old, ["image_id", "face_index"], "full_outer")
            .select(*names, *kept, F.col(_IS_NEW).isNull().alias(DELETE_FLAG))
        )

    def _provenance(self) -> list[Column]:
        return [
            F.lit(self.context.config.config_id()).alias("config_id"),
            F.lit(self.context.run.model_version).alias("model_version"),
            F.lit(self.context.run.run_id).alias("run_id"),
            F.lit(self.processed_at).alias("processed_at"),
        ]


def _inside(table: DataFrame, ids: IdRange) -> DataFrame:
    return table.where((F.col("image_id") >= ids.first) & (F.col("image_id") <= ids.last))


def _join_values(plan: DataFrame, analyzed: DataFrame, results: DataFrame | None) -> DataFrame:
    """Joins the inferred values (`_new_*`), the values to reuse (`_reused_*`), and `_absent`: read in vain."""
    inferred = analyzed.where("status <> 'missing'").select(
        "content_sha256",
        F.col("image_id").alias("inferred_source"),
        *(F.col(name).alias(f"_new_{name}") for name in _VALUES),
    )
    if results is None:
        types = {field.name: field.dataType for field in IMAGE_RESULTS}
        nothing = {f"_reused_{name}": F.lit(None).cast(types[name]) for name in _VALUES}
        plan = plan.withColumns(nothing)
    else:
        reused = results.select(
            F.col("image_id").alias("reuse_source"), *(F.col(name).alias(f"_reused_{name}") for name in _VALUES)
        )
        plan = plan.join(reused, "reuse_source", "left")
    absent = analyzed.where("status = 'missing'").select("image_id", F.lit(True).alias("_absent"))
    return (
        plan.join(inferred, "content_sha256", "left")
        .join(absent, "image_id", "left")
        .withColumn("_absent", F.coalesce("_absent", F.lit(False)))
    )
