"""Finds all images that a request is about: those of its subjects, and those with the same content."""

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import StringType

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.erasure_requests import Request
from faceattr_udf.spark.input_columns import InputColumns

_PATH: Final = "path"

_EMPTY: Final = sha256(b"").hexdigest()
"""Files without a byte are no copies of a picture."""


@dataclass(frozen=True)
class Holding:
    """A table that holds images.

    Attributes:
        frame: The table.
        image_id: Its ids, as text.
        content: Its hashes of contents; None where it has none.
    """

    frame: DataFrame
    image_id: Column
    content: Column | None = None

    @classmethod
    def of_output(cls, frame: DataFrame) -> "Holding":
        """Returns the faces or image_results table."""
        content = F.col("content_sha256") if "content_sha256" in frame.columns else None
        return cls(frame, F.col("image_id"), content)

    @classmethod
    def of_images(cls, frame: DataFrame, columns: InputColumns, config: Config) -> "Holding":
        """Returns the images table."""
        has_hash = config.input.columns.content_sha256 in frame.columns
        return cls(frame, columns.image_id, columns.given_hash if has_hash else None)


class Resolver:
    """Looks up images; ids are data, and never part of a query.

    Args:
        spark: A session.
        config: Names the column of subjects.
        holdings: The tables.
    """

    def __init__(self, spark: SparkSession, config: Config, holdings: Collection[Holding]) -> None:
        self._spark = spark
        self._subject = config.consent.subject
        self._holdings = holdings

    def resolve(self, image_ids: Collection[str], subject_ids: Collection[str]) -> Request:
        """Returns the request with all images that it is about.

        Raises:
            SchemaError: Subjects are asked for, and no table has their column.
        """
        ids = set(image_ids)
        if subject_ids:
            ids |= self._of_subjects(subject_ids)
        contents = set[str]()
        for one in self._holdings:
            if one.content is not None:
                contents |= self._find(one.frame, one.image_id, ids, one.content)
        contents.discard(_EMPTY)
        asked = set(ids)
        for one in self._holdings:
            if one.content is not None:
                ids |= self._find(one.frame, one.content, contents, one.image_id)
        paths = set[str]()
        for one in self._holdings:
            if _PATH in one.frame.columns and isinstance(one.frame.schema[_PATH].dataType, StringType):
                paths |= self._find(one.frame, one.image_id, ids, F.col(_PATH))
        return Request(
            kind="erase",
            image_ids=tuple(sorted(ids)),
            subject_ids=tuple(sorted(set(subject_ids))),
            contents=tuple(sorted(contents)),
            paths=tuple(sorted(paths)),
            n_asked=len(set(image_ids)) + len(set(subject_ids)),
            n_copies=len(ids - asked),
        )

    def _of_subjects(self, subject_ids: Collection[str]) -> set[str]:
        known = [one for one in self._holdings if self._subject in one.frame.columns]
        if not known:
            msg = f"no table has a column {self._subject!r} of subjects; set consent.subject to the right column"
            raise SchemaError(msg)
        subject = F.col(quoted(self._subject)).cast("string")
        return {found for one in known for found in self._find(one.frame, subject, subject_ids, one.image_id)}

    def _find(self, frame: DataFrame, key: Column, values: Collection[str], wanted: Column) -> set[str]:
        """Returns a column of the rows whose key is among some values."""
        if not values:
            return set()
        few = id_frame(self._spark, values, "_value")
        rows = frame.select(key.alias("_key"), wanted.alias("_wanted"))
        found = F.broadcast(few).join(rows, F.col("_value") == F.col("_key"), "inner").select("_wanted").distinct()
        return {row["_wanted"] for row in found.collect() if row["_wanted"] is not None}


def id_frame(spark: SparkSession, values: Collection[str], name: str) -> DataFrame:
    """Returns one row per value."""
    return spark.createDataFrame([(value,) for value in sorted(set(values))], f"{quoted(name)} string")
