"""Read-side view of the images table: image keys without content, and the content of chosen images."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import StructField, StructType

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.engine_errors import is_engine_error, is_transient, reason
from faceattr_udf.spark.enrichment.image_files import ImageFiles, file_of_row, image_files
from faceattr_udf.spark.enrichment.wave_bounds import IdRange
from faceattr_udf.spark.input_columns import SUBJECT, WORK_PREFIX, InputColumns
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.parquet_input import InputFrames

NULL_ID: Final = "null-image-id:"
"""Prefix of the image_id of rows that have none; the hash of their content follows, so that they keep their results."""

_NOT_READ: Final = "not-consented"
"""In place of the hash for rows whose content must not be read."""

_FILE: Final = f"{WORK_PREFIX}file"


@dataclass(frozen=True)
class ImagesTable:
    """An images table with checked columns.

    Attributes:
        frame: The table.
        ref: Where it is.
        config: Names its columns.
        columns: The columns that a run uses.
        light: `InputFrames.light`.
        files: Its files; None where it is read by ranges of image_id.
        consents: The subjects with consent (`SUBJECT`), where a table of consents decides; until they are known, nobody
            has consented.
        kept_out: The image_ids of erased and expired images among `ids_to_hash`; None if there are none.
    """

    frame: DataFrame
    ref: TableRef
    config: Config
    columns: InputColumns
    light: DataFrame | None = None
    files: ImageFiles | None = None
    consents: DataFrame | None = None
    kept_out: DataFrame | None = None

    @classmethod
    def check(cls, frames: InputFrames, ref: TableRef, name: str, config: Config) -> "ImagesTable":
        """Checks the columns that the configuration names.

        Args:
            frames: The table.
            ref: Where it is.
            name: Its name in errors.
            config: Names its columns.

        Raises:
            SchemaError: As `InputColumns.check` says.
        """
        schema = frames.frame.schema
        if frames.light is not None:
            own = set(schema.fieldNames())
            schema = StructType([*schema, *(field for field in frames.light.schema if field.name not in own)])
        columns = InputColumns.check(schema, name, config)
        files = image_files(frames.frame, config.engine.name, ref.format)
        return cls(frames.frame, ref, config, columns, frames.light, files)

    def probe(self) -> None:
        """Reads a row without its content, so that a table that cannot be read is noticed before anything is written.

        Raises:
            SchemaError: The engine cannot read it.
        """
        try:
            (self._keys_of_rows() if self._has_hash else self.frame.select(self.columns.image_id)).limit(1).collect()
        except Exception as error:  # the JVM's bridge and the Connect client raise unrelated types
            if not is_engine_error(error) or is_transient(error):
                raise
            msg = f"the images table cannot be read ({reason(error)}); repair it, or name another table"
            raise SchemaError(msg) from error

    @property
    def pass_through(self) -> tuple[StructField, ...]:
        """The columns that are copied to the faces."""
        return self.columns.pass_through

    @property
    def keys_of_pass_through(self) -> dict[str, str]:
        """The pass-through columns -> their names in `keys`, which no other column can have."""
        return {field.name: f"{WORK_PREFIX}{index}" for index, field in enumerate(self.pass_through)}

    @property
    def comparable(self) -> dict[str, str]:
        """Those of `keys_of_pass_through` whose values every engine can compare."""
        names = self.keys_of_pass_through
        return {field.name: names[field.name] for field in self.pass_through if _comparable(field)}

    @property
    def _has_hash(self) -> bool:
        return self.config.input.columns.content_sha256 in self.frame.columns

    def _hash(self) -> Column:
        computed = F.sha2(self.columns.content, 256)
        return F.coalesce(self.columns.given_hash, computed) if self._has_hash else computed

    def _id(self, content_hash: Column, *, permitted: bool = True) -> Column:
        absent = "missing" if permitted else _NOT_READ
        generated = F.concat(F.lit(NULL_ID), F.coalesce(content_hash, F.lit(absent)))
        return F.coalesce(self.columns.image_id, generated)

    def _bytes_left_out(self, content_hash: Column) -> Column:
        size = self.columns.size
        return F.lit(None).cast("long") if size is None else F.when(content_hash.isNull(), size)

    def ids(self) -> DataFrame:
        """Returns one row (image_id) per row of the table; content is read only where there is no id, but consent."""
        own = self.columns.image_id
        rows = self.frame.where(own.isNotNull()).select(own.alias("image_id"))
        permitted, refused = self._by_consent(self.frame.where(own.isNull()))
        rows = rows.unionByName(permitted.select(self._id(self._hash()).alias("image_id")))
        if refused is not None:
            unread = self._id(self._unread_hash(), permitted=False)
            rows = rows.unionByName(refused.select(unread.alias("image_id")))
        return rows

    def ids_to_hash(self) -> DataFrame | None:
        """Returns the image_ids of rows whose content has to be read for their hash; None if there cannot be any."""
        if self.light is not None:
            return None
        own = self.columns.image_id
        rows = self.frame.where(own.isNotNull())
        if self._has_hash:
            rows = rows.where(self.columns.given_hash.isNull())
        return rows.select(own.alias("image_id"))

    def keys(self) -> DataFrame:
        """Returns one row per image.

        Of rows with the same image_id, the one with the smallest hash is used.

        Returns:
            image_id, content_sha256, the pass-through columns as `keys_of_pass_through` names them, the subject where
            consents decide, and: `consented`, true if all rows of the image have consent; `copies`, the number of rows
            with that image_id; `by_content`, whether the image_id alone does not identify the row; `bytes_left_out`,
            the size of a file that jobs.ingest added without its content; `file`, the row's file in `files`, or an
            empty string.
        """
        same = Window.partitionBy("image_id")
        order = [F.col("content_sha256").asc_nulls_last()]
        order += [F.col(name).cast("string").asc_nulls_last() for name in self.comparable.values()]
        order.append(F.col("file").asc())
        rows = self._keys_of_rows()
        copies = F.count(F.lit(1)).over(same)
        columns = {name: F.col(name) for name in rows.columns} | {
            "consented": F.min(F.col("consented").cast("int")).over(same) == 1,
            "copies": copies,
            "by_content": F.col("by_content") | (copies > 1),
            "_rank": F.row_number().over(same.orderBy(*order)),
        }
        # One step, because an engine analyzes the whole plan after each.
        ranked = rows.select(*(column.alias(name) for name, column in columns.items()))
        return ranked.where("_rank = 1").drop("_rank")

    def _keys_of_rows(self) -> DataFrame:
        """Returns one row per row of the table; content is read only where the hash is needed, missing and allowed."""
        given = self.columns.given_hash
        if self.light is not None:
            return self._judged_keys(self.light, given)
        if not self._has_hash:
            return self._keys_with_hash(self.frame)
        complete = self.columns.image_id.isNotNull() & given.isNotNull()
        # Two branches, because the first needs no content; the second is empty in a table from jobs.ingest.
        return self._judged_keys(self.frame.where(complete), given).unionByName(
            self._keys_with_hash(self.frame.where(~complete))
        )

    def _judged_keys(self, frame: DataFrame, given: Column) -> DataFrame:
        """Returns the keys of rows whose hash is given."""
        agreed = self.columns.consent if self.config.input.require_consent else F.lit(True)
        if self.columns.subject is None:
            return self._select_keys(frame, given, agreed)
        if self.consents is None:
            return self._select_keys(frame, given, F.lit(False))
        keys = self._select_keys(frame, given, agreed)
        known = self.consents.select(F.col(SUBJECT).alias("_agreed"))
        joined = keys.join(known, F.col(SUBJECT) == F.col("_agreed"), "left")
        both = F.col("consented") & F.col("_agreed").isNotNull()
        return joined.select(*((both if name == "consented" else F.col(name)).alias(name) for name in keys.columns))

    def _keys_with_hash(self, frame: DataFrame) -> DataFrame:
        """Returns the keys of rows whose hash is computed if it may be: not of erased images, nor without consent."""
        if self.kept_out is not None:
            if self.files is not None and _FILE not in frame.columns:
                frame = frame.withColumn(_FILE, file_of_row())  # which a join would hide
            own = self.columns.image_id
            known = self.kept_out.select(F.col("image_id").alias("_kept_out"))
            unread = F.broadcast(known).join(frame, F.col("_kept_out") == own, "inner")
            unread = unread.drop("_kept_out", self.columns.content_column)
            keys = self._select_keys(unread, self._unread_hash(), F.lit(True), permitted=False)
            return keys.unionByName(self._permitted_keys(self._not_kept_out(frame)))
        return self._permitted_keys(frame)

    def _not_kept_out(self, frame: DataFrame) -> DataFrame:
        """Leaves out rows of erased and expired images; the broadcast is on the left, as in `_by_consent`."""
        if self.kept_out is None:
            return frame
        known = self.kept_out.select(F.col("image_id").alias("_kept_out"))
        rest = F.broadcast(known).join(frame, F.col("_kept_out") == self.columns.image_id, "right")
        return rest.where(F.col("_kept_out").isNull()).drop("_kept_out")

    def _permitted_keys(self, frame: DataFrame) -> DataFrame:
        """Returns the keys of rows whose hash may be computed where there is consent."""
        permitted, refused = self._by_consent(frame)
        keys = self._select_keys(permitted, self._hash(), F.lit(True))
        if refused is None:
            return keys
        return keys.unionByName(self._select_keys(refused, self._unread_hash(), F.lit(False), permitted=False))

    def _unread_hash(self) -> Column:
        return self.columns.given_hash if self._has_hash else F.lit(None).cast("string")

    def _by_consent(self, frame: DataFrame) -> tuple[DataFrame, DataFrame | None]:
        """Divides rows by consent before anything looks at their content.

        Returns:
            The rows with consent, and the others; None where nobody is asked.
        """
        subject = self.columns.subject
        asked = self.columns.consent if self.config.input.require_consent else None
        if subject is None:
            return (frame, None) if asked is None else (frame.where(self.columns.agreement), frame.where(~asked))
        if self.consents is None:
            return frame.where(F.lit(False)), frame
        if self.files is not None and _FILE not in frame.columns:
            frame = frame.withColumn(_FILE, file_of_row())  # which a join would hide
        # The subjects are on the left and broadcast, so content is neither shuffled nor held in memory.
        known = self.consents.select(F.col(SUBJECT).alias("_agreed"))
        agreed = F.broadcast(known).join(frame, F.col("_agreed") == subject, "inner").drop("_agreed")
        light = frame.drop(self.columns.content_column)
        refused = light.join(known, F.col("_agreed") == subject, "left_anti")
        if asked is None:
            return agreed, refused
        return agreed.where(asked), refused.unionByName(agreed.where(~asked).select(*light.columns))

    def _select_keys(
        self, frame: DataFrame, content_hash: Column, consented: Column, *, permitted: bool = True
    ) -> DataFrame:
        subject = self.columns.subject
        return frame.select(
            self._id(content_hash, permitted=permitted).alias("image_id"),
            content_hash.alias("content_sha256"),
            consented.alias("consented"),
            self.columns.image_id.isNull().alias("by_content"),
            self._bytes_left_out(content_hash).alias("bytes_left_out"),
            self._file(frame).alias("file"),
            *([] if subject is None else [subject.alias(SUBJECT)]),
            *(F.col(quoted(name)).alias(key) for name, key in self.keys_of_pass_through.items()),
        )

    def _file(self, frame: DataFrame) -> Column:
        if _FILE in frame.columns:
            return F.col(_FILE)
        return F.lit("") if self.files is None else file_of_row()

    def contents(
        self, wanted: DataFrame, ids: IdRange, files: Collection[str], image_ids: Sequence[str] | None = None
    ) -> DataFrame:
        """Returns the content of images that their image_id identifies.

        `wanted` is broadcast, so content is never shuffled.

        Args:
            wanted: A few rows (image_id, content_sha256, and the subject where consents decide).
            ids: The range of their image_ids; the engine skips files and row groups by it.
            files: Their files, if the table has `files`.
            image_ids: The image_ids in `wanted`, so that the engine holds the contents of no others; None where these
                are too many for a condition.

        Returns:
            image_id, content; no row for an image that has left the table or changed its content since `wanted` was
            computed.
        """
        own = self.columns.image_id
        near = self._permitted(self._near(files).where((own >= ids.first) & (own <= ids.last)), wanted)
        if image_ids is not None:
            near = near.where(own.isin(list(image_ids)))
        images = near.select(
            own.alias("image_id"), self._hash().alias("content_sha256"), self.columns.content.alias("content")
        )
        few = F.broadcast(wanted.select("image_id", "content_sha256"))
        return few.join(images, ["image_id", "content_sha256"], "inner").select("image_id", "content")

    def contents_by_hash(self, wanted: DataFrame, ids: IdRange, files: Collection[str]) -> DataFrame:
        """Returns the content of images that only image_id and hash together identify: duplicates, rows without an id.

        Returns:
            image_id, content, in one partition, so that the reader can drop equal rows. The partitions are merged after
            the join, because an engine may split the result of a join.
        """
        own = self.columns.image_id
        inside = ((own >= ids.first) & (own <= ids.last)) | own.isNull()
        near = self._permitted(self._near(files).where(inside), wanted)
        images = near.select(
            self._id(self._hash()).alias("image_id"),
            self._hash().alias("content_sha256"),
            self.columns.content.alias("content"),
        )
        few = F.broadcast(wanted.select("image_id", "content_sha256"))
        found = few.join(images, ["image_id", "content_sha256"], "inner").select("image_id", "content")
        return found.coalesce(1)

    def _permitted(self, frame: DataFrame, wanted: DataFrame) -> DataFrame:
        """Leaves out rows that nobody may look at, so that nothing computes the hash of their content."""
        frame = self._not_kept_out(frame)
        if self.config.input.require_consent:
            frame = frame.where(self.columns.agreement)
        subject = self.columns.subject
        if subject is None:
            return frame
        # All subjects of wanted images have consented.
        few = F.broadcast(wanted.select(F.col(SUBJECT).alias("_agreed")).distinct())
        return few.join(frame, F.col("_agreed") == subject, "inner").drop("_agreed")

    def _near(self, files: Collection[str]) -> DataFrame:
        return self.frame if self.files is None else self.files.read(files)


def _comparable(field: StructField) -> bool:
    return field.dataType.typeName() not in {"map", "array", "struct", "variant", "binary"}
