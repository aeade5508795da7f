"""One wave: which contents are inferred, who shares their results, and the rows that are committed."""

import os
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import StringType, StructField, StructType

from faceattr_udf.config import Config
from faceattr_udf.results import NO_CONSENT, NO_CONTENT, ImageStatus
from faceattr_udf.spark.enrichment.images_table import ImagesTable
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.schemas import IMAGE_RESULTS, face_struct, faces_table, result_struct
from faceattr_udf.spark.udf import AnalyzeBatches, AnalyzerProvider

_TRANSFERABLE = [str(s) for s in ImageStatus if s not in {"missing", "not_consented", "model_error"}]
"""Results that belong to the content; the others belong to the row or to a moment."""


@dataclass(frozen=True)
class Outcome:
    """What a wave commits, all of it staged.

    Attributes:
        results: Rows of image_results.
        faces: Rows of faces and `_delete`, true for rows of the wave's images that shall go.
    """

    results: DataFrame
    faces: DataFrame


@dataclass(frozen=True)
class Wave:
    """Images from `first` to `last`, and what is needed to give each a result.

    Attributes:
        name: Its folder in the staging area.
        first: The smallest image_id.
        last: The largest.
        images: The table they come from.
        config: The configuration.
        provider: Where analyzers come from.
        staging: Where results wait for their commit.
        run_id: The run.
        model_version: The weights.
        processed_at: The time all its rows carry.
    """

    name: str
    first: str
    last: str
    images: ImagesTable
    config: Config
    provider: AnalyzerProvider
    staging: Staging
    run_id: str
    model_version: str
    processed_at: datetime

    def run(
        self, pending: DataFrame, remaining: DataFrame, results: DataFrame, faces: DataFrame
    ) -> tuple[Outcome, int]:
        """Infers what must be inferred and stages what shall be committed.

        Args:
            pending: The wave's images, as `ImagesTable.keys` gives them.
            remaining: image_id of all images not yet committed in this run, the wave's own among them.
            results: The image_results table.
            faces: The faces table.

        Returns:
            The outcome, and how many contents were inferred.
        """
        plan = self.staging.write(f"{self.name}/plan", self._plan(pending, remaining, results))
        analysed, n_inferred = self._analyse(plan)
        outcomes = self.staging.write(f"{self.name}/results", self._results(plan, analysed, results))
        rows = self.staging.write(f"{self.name}/faces", self._faces(plan, analysed, outcomes, faces))
        return Outcome(outcomes.select(*IMAGE_RESULTS.fieldNames()), rows), n_inferred

    def _plan(self, pending: DataFrame, remaining: DataFrame, results: DataFrame) -> DataFrame:
        """Adds donor_id: an image with the same content that has its result already.

        An image that is still pending is no donor even where its row says the same content: a killed run may have
        replaced its faces and not yet its row.
        """
        donors = (
            self._same_version(results)
            .where(F.col("status").isin(_TRANSFERABLE))
            .join(remaining.select("image_id"), "image_id", "left_anti")
            .groupBy("content_sha256")
            .agg(F.min("image_id").alias("donor_id"))
        )
        plan = pending.join(donors, "content_sha256", "left")
        return plan.withColumn("donor_id", F.when(F.col("consented"), F.col("donor_id")))

    def _same_version(self, table: DataFrame) -> DataFrame:
        version = (F.col("config_id") == self.config.config_id()) & (F.col("model_version") == self.model_version)
        return table.where(version)

    def _analyse(self, plan: DataFrame) -> tuple[DataFrame, int]:
        """Infers every content once.

        A row may claim a hash and have no content, or another content or none since the run began; then the next row
        with that hash is tried, hence rounds.
        """
        shape = StructType([StructField("image_id", StringType()), *result_struct(self.config.output)])
        spark = plan.sparkSession
        analysed = spark.createDataFrame([], StructType([*shape, StructField("content_sha256", StringType())]))
        todo = plan.where("consented AND content_sha256 IS NOT NULL AND donor_id IS NULL")
        by_hash = Window.partitionBy("content_sha256").orderBy("by_content", "image_id")
        n_inferred, number = 0, 0
        while True:
            chosen = todo.withColumn("_rank", F.row_number().over(by_hash)).where("_rank = 1")
            sources = self.staging.write(
                f"{self.name}/sources_{number}", chosen.select("image_id", "content_sha256", "by_content")
            )
            parts, n_wanted = self._parts(sources)
            if not parts:
                return analysed, n_inferred
            # Inference happens in this write and nowhere else.
            inferred = [self._infer(part, shape) for part in parts]
            written = self.staging.write(f"{self.name}/analysed_{number}", reduce(DataFrame.unionByName, inferred))
            found = written.join(sources.select("image_id", "content_sha256"), "image_id")
            analysed = analysed.unionByName(found)
            n_found = written.where("status <> 'missing'").count()
            n_inferred += n_found
            if n_found == n_wanted:
                return analysed, n_inferred
            settled = analysed.where("status <> 'missing'").select("content_sha256")
            todo = todo.join(settled, "content_sha256", "left_anti").join(sources, "image_id", "left_anti")
            number += 1

    def _parts(self, sources: DataFrame) -> tuple[list[DataFrame], int]:
        """The contents to infer, as scans that run side by side, none when there is nothing to do; and how many."""
        n_parts = self.config.enrich.partitions
        if not n_parts:
            # Spark splits files by its cores itself; the embedded engine reads a Parquet file in one thread.
            n_parts = (os.cpu_count() or 1) if self.config.engine.name == "sail" else 1
        # One wave's keys fit one task, and what is found by content is one scan.
        tile = F.ntile(n_parts).over(Window.partitionBy("by_content").orderBy("image_id")) if n_parts > 1 else F.lit(0)
        tiles = sources.withColumn("_tile", F.when(F.col("by_content"), F.lit(0)).otherwise(tile))
        bounds = tiles.groupBy("by_content", "_tile").agg(
            F.min("image_id").alias("first"), F.max("image_id").alias("last"), F.count(F.lit(1)).alias("n")
        )
        parts, n_wanted = [], 0
        for bound in sorted(bounds.collect(), key=lambda row: (row["by_content"], row["first"])):
            if bound["by_content"]:
                parts.append(self.images.contents_by_hash(sources.where("by_content"), self.first, self.last))
            else:
                first, last = bound["first"], bound["last"]
                inside = sources.where(~F.col("by_content") & F.col("image_id").between(first, last))
                parts.append(self.images.contents(inside, first, last))
            n_wanted += bound["n"]
        return parts, n_wanted

    def _infer(self, contents: DataFrame, shape: StructType) -> DataFrame:
        analyze = AnalyzeBatches(
            config_json=self.config.model_dump_json(),
            provider=self.provider,
            keep=("image_id",),
            content="content",
            unique="image_id",
        )
        return contents.mapInArrow(analyze.__call__, shape)

    def _results(self, plan: DataFrame, analysed: DataFrame, results: DataFrame) -> DataFrame:
        """One row of image_results per image of the plan, and `source_id`: whose faces in `analysed` it has."""
        names = ["status", "error", "width", "height", "n_faces"]
        shared = analysed.where("status <> 'missing'").select(
            "content_sha256",
            F.col("image_id").alias("source_id"),
            *(F.col(name).alias(f"_new_{name}") for name in names),
        )
        donated = results.select(
            F.col("image_id").alias("donor_id"), *(F.col(name).alias(f"_old_{name}") for name in names)
        )
        absent = analysed.where("status = 'missing'").select("image_id", F.lit(True).alias("_absent"))
        joined = (
            plan.join(shared, "content_sha256", "left")
            .join(donated, "donor_id", "left")
            .join(absent, "image_id", "left")
            .withColumn("_absent", F.coalesce("_absent", F.lit(False)))
        )
        found = F.col("consented") & ~F.col("_absent")
        limit = self.config.images.max_bytes
        too_large = F.when(F.col("bytes_left_out") > limit, F.lit(str(ImageStatus.TOO_LARGE)))
        status = (
            F.when(~F.col("consented"), F.lit(str(ImageStatus.NOT_CONSENTED)))
            .when(F.col("_absent"), F.lit(str(ImageStatus.MISSING)))
            # No hash, or the row has left the table since the run began: there is no content.
            .otherwise(F.coalesce("_new_status", "_old_status", too_large, F.lit(str(ImageStatus.MISSING))))
        )
        left_out = F.concat(
            F.col("bytes_left_out").cast("string"), F.lit(f" bytes are more than images.max_bytes = {limit}")
        )
        error = (
            F.when(status == str(ImageStatus.NOT_CONSENTED), F.lit(NO_CONSENT))
            .when(status == str(ImageStatus.MISSING), F.lit(NO_CONTENT))
            .otherwise(F.coalesce("_new_error", "_old_error", F.when(too_large.isNotNull(), left_out)))
        )
        values = [F.when(found, F.coalesce(f"_new_{n}", f"_old_{n}")).alias(n) for n in ("width", "height")]
        n_faces = F.when(found, F.coalesce("_new_n_faces", "_old_n_faces", F.lit(0))).otherwise(F.lit(0))
        return joined.select(
            "image_id",
            "content_sha256",
            status.alias("status"),
            error.alias("error"),
            *values,
            n_faces.cast("int").alias("n_faces"),
            *self._provenance(),
            F.when(found, F.col("source_id")).alias("source_id"),
            F.when(found, F.col("donor_id")).alias("donor_id"),
        )

    def _faces(self, plan: DataFrame, analysed: DataFrame, outcomes: DataFrame, faces: DataFrame) -> DataFrame:
        passed = [field.name for field in self.images.pass_through]
        own = plan.select("image_id", *passed)
        columns = faces_table(self.config.output, self.images.pass_through).fieldNames()
        face_columns = face_struct(self.config.output).fieldNames()
        described = analysed.select(F.col("image_id").alias("source_id"), F.explode("faces").alias("_face")).select(
            "source_id", *(F.col(f"_face.{name}").alias(name) for name in face_columns)
        )
        inferred = outcomes.where("source_id IS NOT NULL").select("image_id", "source_id")
        inferred = inferred.join(described, "source_id").select("image_id", *face_columns)
        donated = outcomes.where("donor_id IS NOT NULL").select("image_id", "donor_id")
        copied = faces.select(F.col("image_id").alias("donor_id"), *face_columns)
        copied = donated.join(copied, "donor_id").select("image_id", *face_columns)
        new = inferred.unionByName(copied).join(own, "image_id")
        new = new.select("image_id", *face_columns, *self._provenance(), *passed).select(*columns)
        old = faces.where((F.col("image_id") >= self.first) & (F.col("image_id") <= self.last))
        old = old.join(own.select("image_id"), "image_id", "left_semi").select("image_id", "face_index")
        # A face that was there and is not any more has its key and nothing else.
        return (
            new.withColumn("_new", F.lit(True))
            .join(old, ["image_id", "face_index"], "full_outer")
            .select(*columns, F.col("_new").isNull().alias("_delete"))
        )

    def _provenance(self) -> list[Column]:
        return [
            F.lit(self.config.config_id()).alias("config_id"),
            F.lit(self.model_version).alias("model_version"),
            F.lit(self.run_id).alias("run_id"),
            F.lit(self.processed_at).alias("processed_at"),
        ]
