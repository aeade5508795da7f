"""Reads the wanted columns of an images table in plain Parquet, alike on every engine.

Engines infer types from the files and fail on the first column that they do not know, wanted or not: nanoseconds,
categories, half floats. So the columns are asked for by name and type. What the embedded engine still cannot read,
Arrow reads in its place.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import LongType, StringType, StructField, StructType

from faceattr_udf.errors import EngineError, SchemaError
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.locations import file_system, local_path
from faceattr_udf.spark.parquet_files import ParquetFolder, plain_type
from faceattr_udf.spark.schemas import refuse_ambiguous

_GLOBS: Final = frozenset("*?[]{}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Wanted:
    """The columns that a job needs of an images table; those that the table lacks are passed over.

    Attributes:
        image_id: The column of ids.
        content: The column of encoded bytes, or a field of a struct such as "image.bytes".
        content_sha256: The column of hashes.
        others: Further columns.
    """

    image_id: str
    content: str
    content_sha256: str
    others: tuple[str, ...]

    def field_of(self, columns: Iterable[str]) -> tuple[str, str | None]:
        """Returns the content's column, and its field if that column is a struct."""
        outer, dot, inner = self.content.partition(".")
        return (outer, inner) if dot and self.content not in columns else (self.content, None)


@dataclass(frozen=True)
class InputFrames:
    """An images table.

    Attributes:
        frame: The table, read by the engine.
        light: Where the engine cannot read all wanted columns: those columns without the content, with a hash in every
            row that has content. Otherwise None.
    """

    frame: DataFrame
    light: DataFrame | None = None


def open_parquet(spark: SparkSession, engine: str, location: str, wanted: Wanted) -> InputFrames | None:
    """Opens a folder or file, or returns None where only the engine reaches it.

    Args:
        spark: A session.
        engine: The name of its engine.
        location: An absolute path or a URI.
        wanted: The columns to read.

    Raises:
        SchemaError: A file is no Parquet file, or a wanted column has a type that no table can keep.
        EngineError: The embedded engine does not reach the location.
    """
    if engine == "sail" and local_path(location) is None and _GLOBS & set(location):
        msg = f"engine sail would expand {location} as a pattern; rename the folder or set engine.name=spark"
        raise EngineError(msg)
    try:
        folder = ParquetFolder.open(location)
    except (EngineError, OSError) as error:
        if engine == "sail" or local_path(location) is not None:
            with explained(f"table {location} cannot be read", "check the location and the access to it"):
                raise
        log.info("parquet_not_listed", location=location, reason=str(error))
        return None
    return _Reader(spark, engine, folder, wanted).frames()


@dataclass(frozen=True)
class _Reader:
    spark: SparkSession
    engine: str
    folder: ParquetFolder
    wanted: Wanted

    def frames(self) -> InputFrames:
        types = self._types()
        content, _ = self.wanted.field_of(types)
        core = {self.wanted.image_id, content, self.wanted.content_sha256}
        native = {name: type_ for name, type_ in types.items() if self._is_native(name)}
        left = [name for name in types if name not in native]
        for name in left:
            if name in core or self.engine != "sail":
                msg = (
                    f"column {name!r} of table {self.folder.location} is {self.folder.columns[name]}, which engine "
                    f"{self.engine} cannot read; write it as {types[name]}, or take it out of input.columns"
                )
                raise SchemaError(msg)
        frame = self._read(native)
        if not left:
            return InputFrames(frame)
        plain = {name: type_ for name, type_ in types.items() if name != content}
        return InputFrames(frame, self._light(plain))

    def _types(self) -> dict[str, pa.DataType]:
        """Returns the plain types of the wanted columns that have values."""
        known = {**self.folder.columns, **self.folder.partitions}
        content, _ = self.wanted.field_of(known)
        types: dict[str, pa.DataType] = {}
        asked = dict.fromkeys((self.wanted.image_id, content, self.wanted.content_sha256, *self.wanted.others))
        refuse_ambiguous(known, self.folder.location, (name for name in asked if name in known))
        for name in asked:
            if name not in known:
                continue
            plain = plain_type(self._stored_type(name))
            if plain is None:
                msg = (
                    f"column {name!r} of table {self.folder.location} is {known[name]}, which Delta tables cannot "
                    "keep; write it as another type, or take it out of input.columns.pass_through"
                )
                raise SchemaError(msg)
            if not pa.types.is_null(plain):
                types[name] = pa.timestamp("us", "UTC") if name in self.folder.int96 else plain
            elif name in {self.wanted.image_id, content}:
                types[name] = pa.string() if name == self.wanted.image_id else pa.binary()
        return types

    def _stored_type(self, name: str) -> pa.DataType:
        """Returns the type of a column in the files; of a struct that holds the content only its field."""
        content, inner = self.wanted.field_of(self.folder.columns)
        type_ = {**self.folder.columns, **self.folder.partitions}[name]
        return _only_field(type_, inner) if name == content and inner is not None else type_

    def _is_native(self, name: str) -> bool:
        if name in self.folder.partitions or name in self.folder.int96:
            return True
        type_ = self._stored_type(name)
        if self.engine == "sail":
            return pa.types.is_timestamp(type_) or _sail_reads(type_)
        return _is_nanoseconds(type_) or _spark_reads(type_)

    def _read(self, types: Mapping[str, pa.DataType]) -> DataFrame:
        spark_nanos = self.engine != "sail"
        nanos = {
            name for name in types if spark_nanos and name in self.folder.columns and name not in self.folder.int96
        }
        nanos = {name for name in nanos if _is_nanoseconds(self.folder.columns[name])}
        if nanos and str(self.spark.conf.get("spark.sql.legacy.parquet.nanosAsLong", "false")).lower() != "true":
            msg = (
                f"column {min(nanos)!r} of table {self.folder.location} is in nanoseconds; set "
                "spark.sql.legacy.parquet.nanosAsLong to true in your session, or write it in microseconds"
            )
            raise SchemaError(msg)
        shape = StructType(
            [StructField(name, LongType() if name in nanos else spark_type(type_)) for name, type_ in types.items()]
        )
        # Partition columns that are not wanted would be added by Spark.
        frame = self.spark.read.schema(shape).option("__globPaths__", "false").parquet(*self._paths())
        return frame.select(
            *(_from_nanoseconds(name, types[name]) if name in nanos else F.col(quoted(name)) for name in types)
        )

    def _paths(self) -> list[str]:
        path = local_path(self.folder.location)
        if self.folder.stray and self.engine == "sail":
            # It would read all subfolders, where Spark reads only partitions.
            scheme = "" if path is not None else self.folder.location.partition("://")[0] + "://"
            names = [file.path for file in self.folder.files]
            return [Path(name).as_uri() if path is not None else scheme + name for name in names]
        if path is not None and self.engine == "sail":
            return [path.as_uri()]  # in a plain path it expands patterns
        return [self.folder.location]

    def _light(self, types: Mapping[str, pa.DataType]) -> DataFrame:
        content, inner = self.wanted.field_of(self.folder.columns)
        hashes = self.wanted.content_sha256
        shape = StructType([StructField(name, spark_type(type_)) for name, type_ in types.items()])
        if hashes not in types:
            shape = shape.add(hashes, StringType())
        system, _ = file_system(self.folder.location)
        rows = []
        for file in self.folder.files:
            with system.open_input_file(file.path) as source:
                groups = pq.ParquetFile(source).num_row_groups
            rows += [(file.path, group, list(file.partition.items())) for group in range(groups)]
        columns = ", ".join(["path string", "group int", "partition array<struct<name:string,value:string>>"])
        read = _ReadRowGroups(self.folder.location, tuple(types.items()), hashes, content, inner)
        return self.spark.createDataFrame(rows, columns).mapInArrow(read.__call__, shape)


@dataclass(frozen=True)
class _ReadRowGroups:
    """The mapInArrow function that reads row groups by their paths and numbers."""

    location: str
    types: tuple[tuple[str, pa.DataType], ...]
    hashes: str
    content: str
    field: str | None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of every row group."""
        system, _ = file_system(self.location)
        for batch in batches:
            for row in batch.to_pylist():
                with system.open_input_file(row["path"]) as source:
                    yield from self._read(pq.ParquetFile(source), row["group"], row["partition"])

    def _read(self, file: pq.ParquetFile, group: int, partition: Sequence[Mapping[str, Any]]) -> list[pa.RecordBatch]:
        names = [name for name, _ in self.types if name in file.schema_arrow.names]
        table = file.read_row_group(group, columns=names)
        fixed = {part["name"]: part["value"] for part in partition}
        columns: dict[str, Any] = {}
        for name, type_ in self.types:
            if name in names:
                columns[name] = table.column(name).cast(type_, safe=False)
            else:
                columns[name] = pa.array([fixed.get(name)] * table.num_rows, pa.string()).cast(type_)
        given = columns[self.hashes].to_pylist() if self.hashes in columns else [None] * table.num_rows
        if None in given and self.content in file.schema_arrow.names:
            contents = file.read_row_group(group, columns=[self.content]).column(self.content)
            for index, value in enumerate(contents):
                found = value.as_py() if given[index] is None else None
                found = found[self.field] if found is not None and self.field is not None else found
                if found is not None:  # text is hashed as UTF-8, as the engines do
                    given[index] = sha256(found.encode() if isinstance(found, str) else found).hexdigest()
        columns[self.hashes] = pa.array(given, pa.string())
        batches: list[pa.RecordBatch] = pa.table(columns).combine_chunks().to_batches()
        return batches


def spark_type(type_: pa.DataType) -> Any:  # noqa: ANN401 - a DataType; pyspark's function has no types
    """Returns the Spark type of a plain Arrow type.

    >>> spark_type(pa.timestamp("us")).simpleString(), spark_type(pa.list_(pa.int32())).simpleString()
    ('timestamp_ntz', 'array<int>')
    """
    return from_arrow_type(type_, prefer_timestamp_ntz=True)


def _is_nanoseconds(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) and type_.unit == "ns")


def _from_nanoseconds(name: str, type_: pa.DataType) -> Column:
    micros = F.expr(f"{quoted(name)} div 1000")
    if getattr(type_, "tz", None):
        return F.timestamp_micros(micros).alias(name)
    # Not by a cast, which depends on the session's time zone.
    seconds = (micros.cast("decimal(20,0)") / F.lit(1_000_000)).cast("decimal(18,6)")
    epoch = F.lit("1970-01-01 00:00:00").cast("timestamp_ntz")
    return (epoch + F.make_dt_interval(F.lit(0), F.lit(0), F.lit(0), seconds)).alias(name)


def _only_field(type_: pa.DataType, name: str) -> pa.DataType:
    """Returns a struct with one of its fields; another type, or a struct without that field, as it is."""
    if not pa.types.is_struct(type_) or type_.get_field_index(name) < 0:
        return type_
    return pa.struct([type_.field(type_.get_field_index(name))])


def _parts(type_: pa.DataType) -> Iterator[pa.DataType]:
    """Yields a type and all types inside it."""
    yield type_
    if pa.types.is_nested(type_):
        for index in range(type_.num_fields):
            yield from _parts(type_.field(index).type)


def _sail_reads(type_: pa.DataType) -> bool:
    """Checks whether the embedded engine reads a column of an Arrow type if it is asked for the plain type."""
    is_ = pa.types
    odd = (is_.is_dictionary, is_.is_float16, is_.is_duration, is_.is_date64, is_.is_decimal256, is_.is_null)
    lists = (is_.is_large_list, is_.is_fixed_size_list)
    inside = list(_parts(type_))
    if any(check(part) for part in inside for check in (*odd, *lists)):
        return False
    # Inside of lists and structs it does not convert.
    return len(inside) == 1 or all(plain_type(part) == part for part in inside if not is_.is_nested(part))


def _spark_reads(type_: pa.DataType) -> bool:
    inside = list(_parts(type_))
    return not any(pa.types.is_float16(part) or _is_nanoseconds(part) for part in inside)
