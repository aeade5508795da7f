"""Read-side view of the images table: image keys without content, and the content of chosen images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import BooleanType, LongType, StringType, StructField

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.schemas import IMAGE_RESULTS, face_struct, require_column, require_content

NULL_ID: Final = "null-image-id:"
"""Prefix of the image_id of rows that have none; the hash of their content follows, so that they keep their results."""

_KEY_COLUMNS: Final = {"image_id", "content_sha256", "consented", "copies", "by_content", "bytes_left_out"}


@dataclass(frozen=True)
class ImagesTable:
    """An images table with checked columns.

    Attributes:
        frame: The table.
        config: Names its columns.
        pass_through: The columns that are copied to the faces.
    """

    frame: DataFrame
    config: Config
    pass_through: tuple[StructField, ...]

    @classmethod
    def check(cls, frame: DataFrame, name: str, config: Config) -> "ImagesTable":
        """Checks the columns that the configuration names.

        Raises:
            SchemaError: A column is missing or has the wrong type, or the name of a pass-through column is taken.
        """
        columns, schema = config.input.columns, frame.schema
        require_column(name, schema, columns.image_id, StringType(), "input.columns.image_id")
        require_content(name, schema, config.input)
        if columns.content_sha256 in schema.fieldNames():
            require_column(name, schema, columns.content_sha256, StringType(), "input.columns.content_sha256")
        if config.input.require_consent:
            require_column(name, schema, columns.consent, BooleanType(), "input.columns.consent")
        taken = {*_KEY_COLUMNS, *IMAGE_RESULTS.fieldNames(), *face_struct(config.output).fieldNames(), columns.content}
        clash = [column for column in columns.pass_through if column in taken]
        if clash:
            msg = (
                f"input.columns.pass_through names {', '.join(clash)}, which the faces table already has; leave it out"
            )
            raise SchemaError(msg)
        pass_through = tuple(field for field in schema if field.name in columns.pass_through)
        return cls(frame, config, pass_through)

    @property
    def comparable(self) -> list[str]:
        """The pass-through columns whose values every engine can compare."""
        return [field.name for field in self.pass_through if _comparable(field)]

    @property
    def _has_hash(self) -> bool:
        return self.config.input.columns.content_sha256 in self.frame.columns

    def _hash(self) -> Column:
        columns = self.config.input.columns
        computed = F.sha2(F.col(columns.content), 256)
        return F.coalesce(F.col(columns.content_sha256), computed) if self._has_hash else computed

    def _id(self, content_hash: Column) -> Column:
        generated = F.concat(F.lit(NULL_ID), F.coalesce(content_hash, F.lit("missing")))
        return F.coalesce(F.col(self.config.input.columns.image_id), generated)

    def _bytes_left_out(self, content_hash: Column) -> Column:
        size = [field for field in self.frame.schema if field.name == "size" and isinstance(field.dataType, LongType)]
        return F.when(content_hash.isNull(), F.col("size")) if size else F.lit(None).cast("long")

    def ids(self) -> DataFrame:
        """Returns one row (image_id) per row of the table; content is read only where there is no id."""
        own = F.col(self.config.input.columns.image_id)
        named = self.frame.where(own.isNotNull()).select(own.alias("image_id"))
        unnamed = self.frame.where(own.isNull()).select(self._id(self._hash()).alias("image_id"))
        return named.unionByName(unnamed)

    def keys(self) -> DataFrame:
        """Returns one row per image.

        Of rows with the same image_id, the one with the smallest hash is used.

        Returns:
            image_id, content_sha256, the pass-through columns, and: `consented`, true if all rows of the image have
            consent; `copies`, the number of rows with that image_id; `by_content`, whether the image_id alone does not
            identify the row; `bytes_left_out`, the size of a file that jobs.ingest added without its content.
        """
        same = Window.partitionBy("image_id")
        order = [F.col("content_sha256").asc_nulls_last()]
        order += [F.col(name).cast("string").asc_nulls_last() for name in self.comparable]
        return (
            self._keys_of_rows()
            .withColumn("copies", F.count(F.lit(1)).over(same))
            .withColumn("consented", F.min(F.col("consented").cast("int")).over(same) == 1)
            .withColumn("_rank", F.row_number().over(same.orderBy(*order)))
            .where("_rank = 1")
            .drop("_rank")
            .withColumn("by_content", F.col("by_content") | (F.col("copies") > 1))
        )

    def _keys_of_rows(self) -> DataFrame:
        """Returns one row per row of the table; content is read only where the hash is needed and missing."""
        if not self._has_hash:
            return self._select_keys(self.frame, self._hash())
        columns = self.config.input.columns
        given = F.col(columns.content_sha256)
        complete = F.col(columns.image_id).isNotNull() & given.isNotNull()
        # Two branches, because the first needs no content; the second is empty in a table from jobs.ingest.
        rows = self._select_keys(self.frame.where(complete), given)
        return rows.unionByName(self._select_keys(self.frame.where(~complete), self._hash()))

    def _select_keys(self, frame: DataFrame, content_hash: Column) -> DataFrame:
        columns = self.config.input.columns
        consented = (
            F.coalesce(F.col(columns.consent), F.lit(False)) if self.config.input.require_consent else F.lit(True)
        )
        return frame.select(
            self._id(content_hash).alias("image_id"),
            content_hash.alias("content_sha256"),
            consented.alias("consented"),
            F.col(columns.image_id).isNull().alias("by_content"),
            self._bytes_left_out(content_hash).alias("bytes_left_out"),
            *(F.col(field.name) for field in self.pass_through),
        )

    def contents(self, wanted: DataFrame, first: str, last: str, image_ids: Sequence[str] | None = None) -> DataFrame:
        """Returns the content of images that their image_id identifies.

        `wanted` is broadcast, so content is never shuffled.

        Args:
            wanted: A few rows (image_id, content_sha256).
            first: The smallest image_id in `wanted`; the engine skips files and row groups by it.
            last: The largest image_id.
            image_ids: The image_ids in `wanted`, so that the engine holds the contents of no others; None where these
                are too many for a condition.

        Returns:
            image_id, content; no row for an image that has left the table or changed its content since `wanted` was
            computed.
        """
        columns = self.config.input.columns
        own = F.col(columns.image_id)
        near = self.frame.where((own >= first) & (own <= last))
        if image_ids is not None:
            near = near.where(own.isin(list(image_ids)))
        images = near.select(
            own.alias("image_id"), self._hash().alias("content_sha256"), F.col(columns.content).alias("content")
        )
        few = F.broadcast(wanted.select("image_id", "content_sha256"))
        return few.join(images, ["image_id", "content_sha256"], "inner").select("image_id", "content")

    def contents_by_hash(self, wanted: DataFrame, first: str, last: str) -> DataFrame:
        """Returns the content of images that only image_id and hash together identify: duplicates, rows without an id.

        Returns:
            image_id, content, in one partition, so that the reader can drop equal rows. The partitions are merged after
            the join, because an engine may split the result of a join.
        """
        columns = self.config.input.columns
        own = F.col(columns.image_id)
        near = self.frame.where(((own >= first) & (own <= last)) | own.isNull())
        images = near.select(
            self._id(self._hash()).alias("image_id"),
            self._hash().alias("content_sha256"),
            F.col(columns.content).alias("content"),
        )
        few = F.broadcast(wanted.select("image_id", "content_sha256"))
        found = few.join(images, ["image_id", "content_sha256"], "inner").select("image_id", "content")
        return found.coalesce(1)


def _comparable(field: StructField) -> bool:
    return field.dataType.typeName() not in {"map", "array", "struct", "variant", "binary"}
