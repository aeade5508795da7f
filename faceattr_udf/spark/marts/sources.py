"""Reads faces and images as the marts see them: with catalog, day, slice and quality band."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import DateType, StringType, StructType, TimestampNTZType, TimestampType

from faceattr_udf.config import MartsConfig
from faceattr_udf.errors import ConfigError
from faceattr_udf.labels import CLASSES
from faceattr_udf.shares.statistics import BAND_LIMITS_PX
from faceattr_udf.spark.catalog_names import quoted

ALL, UNKNOWN = "all", "unknown"
PLACE: Final = ("catalog", "day", "slice")
_OF_AGE: Final = 18
_DAYS: Final = (StringType, DateType, TimestampType, TimestampNTZType)


@dataclass(frozen=True)
class Places:
    """Expressions of a face's catalog, day and slice."""

    catalog: Column
    day: Column
    slice: Column
    day_is_processing: bool
    without_catalog: bool
    without_slices: bool

    @classmethod
    def of(cls, schema: StructType, config: MartsConfig) -> "Places":
        """Checks the configured columns.

        Raises:
            ConfigError: A column that the user names is not in the faces, or holds no days.
        """
        names, default = schema.fieldNames(), MartsConfig()
        for key, wanted in (
            ("catalog", () if config.catalog == default.catalog else (config.catalog,)),
            ("date", () if config.date == default.date else (config.date,)),
            ("slices", config.slices),
        ):
            for name in wanted:
                if name not in names:
                    msg = (
                        f"marts.{key} names {name!r}, which the faces do not have (they have {', '.join(names)}); "
                        "name one of these, and pass it through with input.columns.pass_through"
                    )
                    raise ConfigError(msg)
        has_date = config.date in names
        if has_date and not isinstance(schema[config.date].dataType, _DAYS):
            kind = schema[config.date].dataType.simpleString()
            msg = f"marts.date names {config.date!r} of type {kind}; name a column of times, dates or ISO 8601 texts"
            raise ConfigError(msg)
        return cls(
            catalog=_text(config.catalog) if config.catalog in names else F.lit(ALL),
            day=_day(config.date, schema) if has_date else _day("processed_at", schema),
            slice=_joined(config.slices) if config.slices else F.lit(ALL),
            day_is_processing=not has_date,
            without_catalog=config.catalog not in names,
            without_slices=not config.slices,
        )


def _text(name: str) -> Column:
    value = F.col(quoted(name)).cast("string")
    # 'all' is the sum over all of them.
    named = F.when(value == ALL, F.lit("all (by name)")).otherwise(value)
    return F.when(value.isNull() | (value == ""), F.lit(UNKNOWN)).otherwise(named)


def _joined(names: Sequence[str]) -> Column:
    return F.concat_ws(" / ", *(_text(name) for name in names))


def _day(name: str, schema: StructType) -> Column:
    column = F.col(quoted(name))
    if isinstance(schema[name].dataType, StringType):
        # Anything else than a date at the beginning is unknown; a cast would fail, or differ between engines.
        first = F.substring(column, 1, 10)
        return F.when(first.rlike("^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), first).otherwise(F.lit(UNKNOWN))
    return F.coalesce(F.date_format(column.cast("date"), "yyyy-MM-dd"), F.lit(UNKNOWN))


def placed_faces(faces: DataFrame, places: Places) -> DataFrame:
    """Returns the faces with catalog, day, slice and quality_band, and the columns that marts use."""
    small, large = BAND_LIMITS_PX
    size = F.col("quality.face_px")
    band = (
        F.when(size < small, F.lit("small"))
        .when(size <= large, F.lit("medium"))
        .when(size > large, F.lit("large"))
        .otherwise(F.lit(UNKNOWN))
    )
    # A protected face has no age, and most faces' `minor` is null.
    minor = F.coalesce(F.col("age") < _OF_AGE, F.lit(False))
    if "minor" in faces.columns:
        minor |= F.coalesce("minor", F.lit(False))
    groups = F.col("age_group_probs") if "age_group_probs" in faces.columns else F.lit(None).cast("map<string,float>")
    return faces.select(
        "image_id",
        "face_index",
        places.catalog.alias("catalog"),
        places.day.alias("day"),
        places.slice.alias("slice"),
        band.alias("quality_band"),
        F.coalesce("model_version", F.lit(UNKNOWN)).alias("model_version"),
        F.coalesce("config_id", F.lit(UNKNOWN)).alias("config_id"),
        "run_id",
        "processed_at",
        "age",
        "age_group",
        minor.alias("minor"),
        groups.alias("age_group_probs"),
        *(column for name in CLASSES for column in (name, f"{name}_confidence", f"{name}_probs")),
        *(F.col(f"quality.{name}").alias(name) for name in ("face_px", "blur", "brightness")),
    )


def placed_images(results: DataFrame, faces: DataFrame, places: Places) -> DataFrame:
    """Returns the images with catalog, day and slice, and what their faces show.

    An image without faces has no pass-through columns: its catalog and slice are unknown, its day is that of processing
    only where this is so for all faces.
    """
    minor, woman, man = (F.col("minor"), F.col("gender") == "female", F.col("gender") == "male")
    by_image = faces.groupBy("image_id").agg(
        *(F.min(name).alias(f"_{name}") for name in PLACE),
        F.count(F.lit(1)).alias("_faces"),
        *(
            F.max(F.when(condition, 1).otherwise(0)).alias(name)
            for name, condition in (
                ("_minors", minor),
                ("_women", woman),
                ("_men", man),
                ("_unknown", F.col("gender").isNull()),
            )
        ),
    )
    processed = F.coalesce(F.date_format(F.col("processed_at").cast("date"), "yyyy-MM-dd"), F.lit(UNKNOWN))
    without = {
        "catalog": F.lit(ALL if places.without_catalog else UNKNOWN),
        "day": processed if places.day_is_processing else F.lit(UNKNOWN),
        "slice": F.lit(ALL if places.without_slices else UNKNOWN),
    }
    n_faces = F.coalesce("_faces", F.lit(0))
    crowd = F.when(n_faces <= 2, n_faces.cast("string"))
    for most, label in ((5, "3-5"), (10, "6-10")):
        crowd = crowd.when(n_faces <= most, F.lit(label))
    composition = F.when(n_faces == 0, F.lit("nobody")).when(F.col("_minors") == 1, F.lit("with_children"))
    composition = composition.when((F.col("_women") == 1) & (F.col("_men") == 1), F.lit("mixed"))
    composition = composition.when(F.col("_unknown") == 1, F.lit(UNKNOWN))
    composition = composition.when(F.col("_women") == 1, F.lit("women")).otherwise(F.lit("men"))
    return results.join(by_image, "image_id", "left").select(
        "image_id",
        *(F.coalesce(f"_{name}", otherwise).alias(name) for name, otherwise in without.items()),
        F.coalesce("model_version", F.lit(UNKNOWN)).alias("model_version"),
        F.coalesce("config_id", F.lit(UNKNOWN)).alias("config_id"),
        "run_id",
        "processed_at",
        F.coalesce("status", F.lit(UNKNOWN)).alias("status"),
        _reason().alias("reason"),
        n_faces.cast("long").alias("n_faces"),
        crowd.otherwise(F.lit("11+")).alias("crowd"),
        composition.alias("composition"),
    )


_REASONS: Final = (
    ("too_large", "bytes are more", "bytes"),
    ("too_large", "pixels are more", "pixels"),
    ("too_large", "memory", "memory"),
    ("unsupported", "is a URL", "url"),
    ("unsupported", "", "format"),
    ("corrupt", "empty", "empty"),
    ("corrupt", "header", "header"),
    ("corrupt", "base64", "base64"),
    ("corrupt", "", "data"),
    ("model_error", "network failed", "network"),
    ("model_error", "no result within", "time"),
    ("model_error", "", "process"),
    ("partial", "", "cut_short"),
)
"""Status, part of the error's text, kind of error; the text itself may name a file's content and stays out."""


def _reason() -> Column:
    reason = F.when(F.lit(False), F.lit(""))
    for status, part, kind in _REASONS:
        reason = reason.when((F.col("status") == status) & F.col("error").contains(part), F.lit(kind))
    return reason.otherwise(F.lit("none"))
