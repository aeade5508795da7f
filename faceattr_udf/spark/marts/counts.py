"""Counts of faces and images by day: nothing here is corrected."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.labels import CLASSES
from faceattr_udf.spark.marts.scores import KEYS
from faceattr_udf.spark.marts.sources import UNKNOWN

_IMAGE_KEYS = tuple(name for name in KEYS if name != "quality_band")
_QUALITIES = ("face_px", "blur", "brightness")


def share_totals(faces: DataFrame) -> DataFrame:
    """Returns the numbers of faces, of photographs, of abstentions and of minors."""
    return faces.groupBy(*KEYS).agg(
        F.count(F.lit(1)).alias("n_faces"),
        F.countDistinct("image_id").alias("n_photographs"),
        *(_number(F.col(name).isNull()).alias(f"n_abstained_{name}") for name in CLASSES),
        _number(F.col("minor")).alias("n_minors"),
    )


def _number(condition: Column) -> Column:
    return F.sum(F.when(condition, 1).otherwise(0)).cast("long")


def audience(faces: DataFrame) -> DataFrame:
    """Returns the numbers of faces by all four attributes."""
    attributes = ("age_group", *CLASSES)
    known = [F.coalesce(name, F.lit(UNKNOWN)).alias(name) for name in attributes]
    return faces.select(*KEYS, *known).groupBy(*KEYS, *attributes).agg(F.count(F.lit(1)).alias("n_faces"))


def photographs(images: DataFrame) -> DataFrame:
    """Returns the numbers of images that were read, by crowd and composition."""
    read = images.where(F.col("status").isin("ok", "no_face", "partial"))
    return read.groupBy(*_IMAGE_KEYS, "crowd", "composition").agg(
        F.count(F.lit(1)).alias("n_photographs"), F.sum("n_faces").alias("n_faces")
    )


def coverage(images: DataFrame, faces: DataFrame) -> DataFrame:
    """Returns the numbers of images by status, and the quality of their faces."""
    group = (*_IMAGE_KEYS, "status", "reason")
    counts = images.groupBy(*group).agg(F.count(F.lit(1)).alias("n_images"), F.sum("n_faces").alias("n_faces"))
    described = images.select("image_id", *group).join(faces.select("image_id", *_QUALITIES), "image_id")
    quality = described.groupBy(*group).agg(
        *(
            F.expr(f"percentile(CAST({name} AS DOUBLE), {percent / 100})").alias(f"{name}_p{percent}")
            for name in _QUALITIES
            for percent in (10, 50, 90)
        )
    )
    return counts.join(quality, list(group), "left")
