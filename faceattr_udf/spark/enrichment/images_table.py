"""The images table as the night sees it: its keys without the content, and the content of chosen keys."""

from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import BinaryType, BooleanType, LongType, StringType, StructField

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.schemas import IMAGE_RESULTS, face_struct, require_column

NULL_ID: Final = "null-image-id:"
"""Rows without an image_id get this and the hash of their content, so that they do not disappear."""

_OWN: Final = {"image_id", "content_sha256", "consented", "copies", "by_content", "bytes_left_out"}


@dataclass(frozen=True)
class ImagesTable:
    """An images table whose columns have been checked.

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
            SchemaError: One is missing, of the wrong type, or passed through under a name the output uses itself.
        """
        columns, schema = config.input.columns, frame.schema
        require_column(name, schema, columns.image_id, StringType(), "input.columns.image_id")
        require_column(name, schema, columns.content, BinaryType(), "input.columns.content")
        if columns.content_sha256 in schema.fieldNames():
            require_column(name, schema, columns.content_sha256, StringType(), "input.columns.content_sha256")
        if config.input.require_consent:
            require_column(name, schema, columns.consent, BooleanType(), "input.columns.consent")
        taken = {*_OWN, *IMAGE_RESULTS.fieldNames(), *face_struct(config.output).fieldNames(), columns.content}
        clash = [column for column in columns.pass_through if column in taken]
        if clash:
            msg = f"input.columns.pass_through names {', '.join(clash)}, which the faces table has itself; leave it out"
            raise SchemaError(msg)
        passed = tuple(field for field in schema if field.name in columns.pass_through)
        return cls(frame, config, passed)

    @property
    def comparable(self) -> list[str]:
        """Those of the columns that pass through whose values every engine can tell apart."""
        return [field.name for field in self.pass_through if _sortable(field)]

    @property
    def _has_hash(self) -> bool:
        return self.config.input.columns.content_sha256 in self.frame.columns

    def _hash(self) -> Column:
        columns = self.config.input.columns
        computed = F.sha2(F.col(columns.content), 256)
        return F.coalesce(F.col(columns.content_sha256), computed) if self._has_hash else computed

    def _id(self, content_hash: Column) -> Column:
        made = F.concat(F.lit(NULL_ID), F.coalesce(content_hash, F.lit("missing")))
        return F.coalesce(F.col(self.config.input.columns.image_id), made)

    def _bytes_left_out(self, content_hash: Column) -> Column:
        size = [field for field in self.frame.schema if field.name == "size" and isinstance(field.dataType, LongType)]
        return F.when(content_hash.isNull(), F.col("size")) if size else F.lit(None).cast("long")

    def ids(self) -> DataFrame:
        """One row (image_id) per row of the table, without reading content except of rows without an id."""
        own = F.col(self.config.input.columns.image_id)
        named = self.frame.where(own.isNotNull()).select(own.alias("image_id"))
        nameless = self.frame.where(own.isNull()).select(self._id(self._hash()).alias("image_id"))
        return named.unionByName(nameless)

    def keys(self) -> DataFrame:
        """One row per image: its image_id and content_sha256, what is said below, and the pass-through columns.

        Of rows with the same image_id the one with the smallest hash counts; where any of them lacks consent, none has
        it (`consented`). `copies` says how many they were. `by_content` marks images that are not told apart by their
        image_id. `bytes_left_out` is the size of a file whose content jobs.ingest did not take.
        """
        columns = self.config.input.columns
        own = F.col(columns.image_id)
        consented = (
            F.coalesce(F.col(columns.consent), F.lit(False)) if self.config.input.require_consent else F.lit(True)
        )
        passed = [F.col(field.name) for field in self.pass_through]

        def select(frame: DataFrame, content_hash: Column) -> DataFrame:
            return frame.select(
                self._id(content_hash).alias("image_id"),
                content_hash.alias("content_sha256"),
                consented.alias("consented"),
                own.isNull().alias("by_content"),
                self._bytes_left_out(content_hash).alias("bytes_left_out"),
                *passed,
            )

        if self._has_hash:
            # Two branches, so that the first reads no content; the second is empty in a table from jobs.ingest.
            given = F.col(columns.content_sha256)
            complete = own.isNotNull() & given.isNotNull()
            rows = select(self.frame.where(complete), given).unionByName(
                select(self.frame.where(~complete), self._hash())
            )
        else:
            rows = select(self.frame, self._hash())
        same = Window.partitionBy("image_id")
        order = [F.col("content_sha256").asc_nulls_last()]
        order += [F.col(name).cast("string").asc_nulls_last() for name in self.comparable]
        return (
            rows.withColumn("copies", F.count(F.lit(1)).over(same))
            .withColumn("consented", F.min(F.col("consented").cast("int")).over(same) == 1)
            .withColumn("_rank", F.row_number().over(same.orderBy(*order)))
            .where("_rank = 1")
            .drop("_rank")
            .withColumn("by_content", F.col("by_content") | (F.col("copies") > 1))
        )

    def contents(self, wanted: DataFrame, first: str, last: str) -> DataFrame:
        """The content of images that their image_id tells apart.

        Args:
            wanted: Few rows (image_id, content_sha256).
            first: The smallest image_id in `wanted`; with it the engine skips files and row groups.
            last: The largest.

        Returns:
            image_id, content; nothing for an image that is not there any more or has another content since `wanted`
            was made. The join is with the few on the broadcast side, so content is never shuffled.
        """
        columns = self.config.input.columns
        own = F.col(columns.image_id)
        near = self.frame.where((own >= first) & (own <= last))
        images = near.select(
            own.alias("image_id"), self._hash().alias("content_sha256"), F.col(columns.content).alias("content")
        )
        few = F.broadcast(wanted.select("image_id", "content_sha256"))
        return few.join(images, ["image_id", "content_sha256"], "inner").select("image_id", "content")

    def contents_by_hash(self, wanted: DataFrame, first: str, last: str) -> DataFrame:
        """The content of images that only image_id and hash together tell apart: duplicates and rows without an id.

        Returns:
            image_id, content, in one partition, so that whoever reads them can tell equal rows, which still come more
            than once. The engine may split what a join gives, so it is put together after the join.
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


def _sortable(field: StructField) -> bool:
    return field.dataType.typeName() not in {"map", "array", "struct", "variant", "binary"}
