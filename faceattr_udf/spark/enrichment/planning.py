"""The plan of a night: which images are pending, whose results they reuse, and in which order they are inferred.

It is made once, from the keys of the images table and the output tables; waves read their own part of it alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.privacy.tombstones import Tombstones
from faceattr_udf.results import ImageStatus
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.enrichment.images_table import ImagesTable
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.enrichment.wave_bounds import IdRange, Place, PlanSlice, whole_groups
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.session_settings import apply_settings, restore_settings
from faceattr_udf.spark.tombstone_table import covered

_REUSABLE: Final = [
    str(s) for s in ImageStatus if s not in {"missing", "not_consented", "erased", "expired", "model_error"}
]
"""Statuses that depend on the content alone; the others depend on the row or may pass."""

KEPT_OUT: Final = (str(ImageStatus.ERASED), str(ImageStatus.EXPIRED))
"""Statuses of images whose content nobody looks at again."""

_SLICE_IMAGES: Final = 1_000
_KEY_SCAN_BYTES: Final = 2**30

_PLAN_ROW_GROUP_BYTES: Final = 2**20
"""Some thousand images: a wave reads its own of them, not what is left."""

_ORDER: Final = ("home_file", "home_id", "image_id")
"""The order of a plan."""


@contextmanager
def key_scans(spark: SparkSession, engine: str) -> Iterator[None]:
    """Makes the tasks of key scans large: Spark divides files by all their bytes, contents included."""
    wanted = {} if engine == "sail" else {"spark.sql.files.maxPartitionBytes": str(_KEY_SCAN_BYTES)}
    before = apply_settings(spark, wanted)
    try:
        yield
    finally:
        restore_settings(spark, before)


@dataclass(frozen=True)
class NightPlan:
    """What a run has to do.

    Attributes:
        pending: The images to process, in the order of their waves: the columns of `ImagesTable.keys`, and
            `reuse_source`, a committed image with the same content; `is_source`, true for the one image of several with
            the same new content that is read; `home_file` and `home_id`, the place of that image, or of the image
            itself where it needs no inference; `has_faces` and `has_result`, whether the output tables have rows of it;
            `kept_out`, the status erased or expired of an image that is not looked at, and then `consented` is false.
        slices: The same images, counted, in order.
        backfill: Images whose pass-through columns differ from those of their faces; None if there are none.
        n_pending: Images to process.
        n_lost: Those among them whose faces are fewer or more than image_results says.
        n_duplicate_rows: Rows of the images table with the image_id of another row.
    """

    pending: DataFrame
    slices: list[PlanSlice]
    backfill: DataFrame | None
    n_pending: int
    n_lost: int
    n_duplicate_rows: int


@dataclass(frozen=True)
class Planner:
    """Makes the plan of a run.

    Attributes:
        images: The images table.
        staging: The staging area of the run.
        run: The run.
        tombstones: Of erased images; None if there are none.
    """

    images: ImagesTable
    staging: Staging
    run: Run
    tombstones: Tombstones | None = None

    def plan(self, results: DataFrame, faces: DataFrame) -> NightPlan:
        """Returns the plan; can be repeated.

        Args:
            results: The image_results table.
            faces: The faces table.
        """
        with key_scans(results.sparkSession, self.run.config.engine.name):
            compared = self.staging.write("compared", self._compared(results, faces))
        totals = compared.agg(
            F.count(F.when(F.col("_pending"), 1)).alias("pending"),
            F.count(F.when(F.col("_lost"), 1)).alias("lost"),
            F.count(F.when(F.col("_backfill"), 1)).alias("backfill"),
            F.sum(F.col("copies") - 1).alias("duplicates"),
        ).collect()[0]
        pending, slices = compared.where("_pending"), list[PlanSlice]()
        if totals["pending"]:
            pending = self._without_erased(pending)
            pending = self.staging.write("plan", self._ordered(pending, results), _PLAN_ROW_GROUP_BYTES)
            slices = self._slices(pending)
        backfill = compared.where("_backfill") if totals["backfill"] else None
        return NightPlan(pending, slices, backfill, totals["pending"], totals["lost"], int(totals["duplicates"] or 0))

    def _without_erased(self, pending: DataFrame) -> DataFrame:
        """Returns pending images, those with a tombstone marked as erased."""
        refused = F.col("kept_out")
        if self.tombstones is not None:
            erased = self.staging.write("erased", covered(pending, self.tombstones).distinct())
            marked = erased.select(F.col("image_id").alias("_erased"))
            pending = pending.join(F.broadcast(marked), F.col("image_id") == F.col("_erased"), "left")
            refused = F.when(F.col("_erased").isNotNull(), F.lit(str(ImageStatus.ERASED))).otherwise(refused)
        names = [name for name in pending.columns if name not in {"_erased", "consented", "kept_out"}]
        decided = pending.select(*names, "consented", refused.alias("kept_out"))
        return decided.withColumn("consented", F.col("consented") & F.col("kept_out").isNull())

    def _compared(self, results: DataFrame, faces: DataFrame) -> DataFrame:
        """Returns the images that need anything, and those with several rows.

        Returns:
            The columns of `ImagesTable.keys`, and: `_pending`, there is no result for the image's content, consent,
            configuration and model, or (`_lost`) one that counts other faces than the faces table has; `_backfill`,
            the image is done and its pass-through columns differ from those of its faces; `has_faces`, `has_result`;
            `kept_out`, the status of a row that is erased or expired.
        """
        keys = self.images.keys()
        done = self._done(results)
        passed = self.images.comparable
        # All faces of an image have the same pass-through columns.
        was = [F.first(F.col(quoted(name))).alias(f"_was_{key}") for name, key in passed.items()]
        by_image = faces.groupBy(F.col("image_id").alias("_face_of"))
        described = by_image.agg(F.count(F.lit(1)).alias("_faces_found"), *was)
        differs = reduce(or_, (~F.col(key).eqNullSafe(F.col(f"_was_{key}")) for key in passed.values()), F.lit(False))
        # An erased image stays so. An expired one is new if its table says that it has another content.
        same = F.col("content_sha256").isNull() | (F.col("content_sha256") == F.col("_hash")) | (F.col("_hash") == "")
        kept_out = F.when(
            (F.col("_status") == str(ImageStatus.ERASED)) | ((F.col("_status") == str(ImageStatus.EXPIRED)) & same),
            F.col("_status"),
        )
        is_done = kept_out.isNotNull() | F.coalesce(
            F.col("_current")
            & (F.coalesce(F.col("content_sha256"), F.lit("")) == F.col("_hash"))
            & (F.col("consented") == F.col("_consented")),
            F.lit(False),
        )
        has_faces = F.col("_face_of").isNotNull()
        lost = is_done & (F.col("_faces_counted") != F.coalesce(F.col("_faces_found"), F.lit(0)))
        pending = ~is_done | lost
        # Joined by image_id alone, by which the keys are distributed already.
        joined = keys.join(done, F.col("image_id") == F.col("_done_id"), "left").join(
            described, F.col("image_id") == F.col("_face_of"), "left"
        )
        return joined.select(
            *keys.columns,
            has_faces.alias("has_faces"),
            F.col("_done_id").isNotNull().alias("has_result"),
            pending.alias("_pending"),
            lost.alias("_lost"),
            (~pending & has_faces & differs).alias("_backfill"),
            kept_out.alias("kept_out"),
        ).where("_pending OR _backfill OR copies > 1")

    def _same_version(self) -> Column:
        config_id, model_version = self.run.config.config_id(), self.run.model_version
        return (F.col("config_id") == config_id) & (F.col("model_version") == model_version)

    def _done(self, results: DataFrame) -> DataFrame:
        """Returns `_done_id`, `_hash`, `_status`, `_consented`, `_faces_counted`, and `_current`: of this version."""
        # A row that had a hash but no content may have its content now; only reading it can tell.
        unread = (F.col("status") == "missing") & F.col("content_sha256").isNotNull()
        return results.select(
            F.col("image_id").alias("_done_id"),
            (self._same_version() & ~unread).alias("_current"),
            F.coalesce("content_sha256", F.lit("")).alias("_hash"),
            F.col("status").alias("_status"),
            (F.col("status") != "not_consented").alias("_consented"),
            F.col("n_faces").alias("_faces_counted"),
        )

    def _ordered(self, pending: DataFrame, results: DataFrame) -> DataFrame:
        """Returns `NightPlan.pending`.

        A pending image is no reuse source, even if its row names the same content: a killed run may have replaced its
        faces but not its row.
        """
        rows = pending.drop("_pending", "_backfill", "_lost", "copies")
        hashes = rows.where("consented AND content_sha256 IS NOT NULL").select("content_sha256").distinct()
        sources = (
            results.where(self._same_version() & F.col("status").isin(_REUSABLE))
            .join(hashes, "content_sha256", "left_semi")
            .join(rows.select("image_id"), "image_id", "left_anti")
            .groupBy("content_sha256")
            .agg(F.min("image_id").alias("reuse_source"))
        )
        reused = F.when(F.col("consented"), F.col("reuse_source"))
        infer = F.col("consented") & F.col("content_sha256").isNotNull() & reused.isNull()
        # Without a hash each image is a group of its own; an id may look like the hash of another group.
        group = F.when(infer, F.col("content_sha256")).otherwise(F.col("image_id"))
        grouped = rows.join(sources, "content_sha256", "left").select(
            *rows.columns, reused.alias("reuse_source"), infer.alias("_infer"), group.alias("_group")
        )
        first = Window.partitionBy("_group").orderBy(F.col("_infer").desc(), "by_content", "file", "image_id")
        home = {"home_file": "file", "home_id": "image_id"}
        return grouped.select(
            *rows.columns,
            "reuse_source",
            (F.col("_infer") & (F.row_number().over(first) == 1)).alias("is_source"),
            *(
                F.when(F.col("_infer"), F.first(own).over(first)).otherwise(F.col(own)).alias(name)
                for name, own in home.items()
            ),
        ).orderBy(*_ORDER)

    def _slices(self, plan: DataFrame) -> list[PlanSlice]:
        rows = max(1, min(_SLICE_IMAGES, self.run.config.enrich.wave_images // 4))
        if self.run.config.engine.name == "sail":
            part: Column = F.lit("")
            number: Column = F.row_number().over(Window.partitionBy("home_file").orderBy(*_ORDER)) - 1
        else:
            # The place in the sorted files of the plan, which needs no other sorting.
            part, number = F.col("_metadata.file_path"), F.col("_metadata.row_index")
        of_source = F.when(F.col("is_source"), F.col("image_id"))
        found = (
            plan.withColumn("_part", part)
            .withColumn("_slice", F.floor(number / rows))
            .groupBy("_part", "_slice", "home_file")
            .agg(
                *(end("home_id").alias(f"home_{name}") for name, end in _ENDS),
                *(end("image_id").alias(f"id_{name}") for name, end in _ENDS),
                *(end(of_source).alias(f"source_{name}") for name, end in _ENDS),
                *(end("reuse_source").alias(f"reused_{name}") for name, end in _ENDS),
                F.count(F.lit(1)).alias("n_images"),
                F.count(F.when(F.col("has_faces"), 1)).alias("n_described"),
                F.count(F.when(F.col("has_result"), 1)).alias("n_known"),
                F.count(of_source).alias("n_sources"),
                F.count(F.when(F.col("is_source") & F.col("by_content"), 1)).alias("n_by_content"),
            )
        )
        return whole_groups([_slice(row.asDict()) for row in found.collect()])


_ENDS: Final = (("first", F.min), ("last", F.max))


def _slice(row: dict[str, Any]) -> PlanSlice:
    def ids(name: str) -> IdRange | None:
        first, last = row[f"{name}_first"], row[f"{name}_last"]
        return None if first is None else IdRange(first, last)

    own = ids("id") or IdRange("", "")
    return PlanSlice(
        first=(row["home_file"], row["home_first"]),
        last=(row["home_file"], row["home_last"]),
        ids=own,
        n_images=row["n_images"],
        n_described=row["n_described"],
        n_known=row["n_known"],
        n_sources=row["n_sources"],
        n_by_content=row["n_by_content"],
        sources=ids("source"),
        files=frozenset([row["home_file"]] if row["n_sources"] else []),
        reused=ids("reused"),
    )


def between(first: Place, last: Place) -> Column:
    """Returns the condition on the images of a plan from one place to another."""
    file, image_id = F.col("home_file"), F.col("home_id")
    after = (file > first[0]) | ((file == first[0]) & (image_id >= first[1]))
    before = (file < last[0]) | ((file == last[0]) & (image_id <= last[1]))
    # The first two let the engine skip files and row groups of the plan.
    return (file >= first[0]) & (file <= last[0]) & after & before
