"""The files of a Parquet folder: which belong to it, whether each is whole, and which columns they have together."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.locations import file_system, local_path

_MAGIC: Final = b"PAR1"
_PARTITION: Final = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
_MAX_FOOTERS: Final = 64
"""Files whose columns are compared; of more files, these are spread evenly."""


@dataclass(frozen=True)
class ParquetFile:
    """A file of a folder.

    Attributes:
        path: Its path in the file system.
        partition: The values of the partition columns, from its folders' names; None where there is none.
    """

    path: str
    partition: Mapping[str, str | None]


@dataclass(frozen=True)
class ParquetFolder:
    """The files and columns of a folder, or of a single file.

    Attributes:
        location: The path or URI.
        files: The data files, by path.
        columns: Name -> Arrow type; null where no file has a value.
        int96: Columns of Spark's and Impala's old timestamps.
        partitions: Name -> int32, date32 or string, as Spark detects them.
        stray: Whether subfolders without partitions hold files, which belong to no table.
    """

    location: str
    files: tuple[ParquetFile, ...]
    columns: Mapping[str, pa.DataType]
    int96: frozenset[str] = frozenset()
    partitions: Mapping[str, pa.DataType] = field(default_factory=dict)
    stray: bool = False

    @classmethod
    def open(cls, location: str) -> "ParquetFolder":
        """Lists a folder and reads footers.

        Raises:
            SchemaError: A file is no Parquet file, or a column has types that do not fit together.
            EngineError: Arrow does not reach the location.
            OSError: The same, later.
        """
        system, root = file_system(location)
        found = list(_list(system, root))
        top = [ParquetFile(file.path, file.partition) for file in found if not file.nested]
        sampled = top[:: max(1, len(top) // _MAX_FOOTERS)]
        # In a store, where opening a file takes long, only the files whose names are suspicious.
        suspects = top if local_path(location) is not None else [f for f in top if not f.path.endswith(".parquet")]
        for path in dict.fromkeys(file.path for file in (*suspects, *sampled)):
            _check_whole(system, path)
        columns: dict[str, pa.DataType] = {}
        int96: set[str] = set()
        for file in sampled:
            _merge(location, columns, int96, system, file.path)
        keys = list(dict.fromkeys(key for file in top for key in file.partition))
        partitions = {key: _partition_type([file.partition.get(key) for file in top]) for key in keys}
        return cls(location, tuple(top), columns, frozenset(int96), partitions, stray=len(top) < len(found))


@dataclass(frozen=True)
class _Found:
    path: str
    partition: Mapping[str, str | None]
    nested: bool


def _list(system: fs.FileSystem, root: str) -> Iterator[_Found]:
    """Yields the visible files; `nested` are those below folders that are no partitions."""
    info = system.get_file_info(root)
    if info.type == fs.FileType.File:
        yield _Found(root, {}, nested=False)
        return
    base = info.path.rstrip("/")
    infos = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    for entry in sorted(infos, key=lambda one: one.path):
        parts = entry.path[len(base) :].strip("/").split("/")
        if entry.type != fs.FileType.File or any(_is_hidden(part) for part in parts):
            continue
        matches = [_PARTITION.fullmatch(part) for part in parts[:-1]]
        values = {m[1]: None if m[2] == _NO_VALUE else unquote(m[2]) for m in matches if m}
        yield _Found(entry.path, values, nested=not all(matches))


def _is_hidden(name: str) -> bool:
    """Engines ignore these names, except partitions such as `_day=1`."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _check_whole(system: fs.FileSystem, path: str) -> None:
    with system.open_input_file(path) as file:
        size = file.size()
        head = file.read(len(_MAGIC))
        if size >= 2 * len(_MAGIC):
            file.seek(size - len(_MAGIC))
        whole = size > 2 * len(_MAGIC) and head == _MAGIC and file.read(len(_MAGIC)) == _MAGIC
    if not whole:
        what = "is cut off or still being written" if head == _MAGIC else "is no Parquet file"
        msg = f"{path} {what}; move it out of the images table, or name another folder"
        raise SchemaError(msg)


def _merge(location: str, columns: dict[str, pa.DataType], int96: set[str], system: fs.FileSystem, path: str) -> None:
    try:
        with system.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            schema, leaves = _schema(file), [file.schema.column(n) for n in range(len(file.schema))]
    except (pa.ArrowException, OSError) as error:
        msg = f"{path} is damaged ({error}); move it out of the images table, or write it again"
        raise SchemaError(msg) from error
    int96 |= {leaf.path for leaf in leaves if leaf.physical_type == "INT96"}
    for column in schema:
        before = columns.get(column.name, column.type)
        together = _wider(before, column.type)
        if together is None:
            msg = (
                f"column {column.name!r} of table {location} is {before} in some files and {column.type} in {path}; "
                "write them with one type"
            )
            raise SchemaError(msg)
        columns[column.name] = together


def _schema(file: pq.ParquetFile) -> pa.Schema:
    """Returns a file's columns; dates in milliseconds as such, although Arrow's C++ reader makes days of them."""
    schema = file.schema_arrow
    embedded = (file.metadata.metadata or {}).get(b"ARROW:schema")
    if embedded is None:
        return schema
    written = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(embedded)))
    for index, field_ in enumerate(schema):
        place = written.get_field_index(field_.name)
        if place >= 0 and pa.types.is_date64(written.field(place).type):
            schema = schema.set(index, field_.with_type(pa.date64()))
    return schema


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Returns the type that holds the values of both, or None.

    >>> _wider(pa.int32(), pa.int64()), _wider(pa.null(), pa.string()), _wider(pa.int32(), pa.string())
    (DataType(int64), DataType(string), None)
    """
    first, second = plain_type(one), plain_type(other)
    if first == second:
        return one if one == other else first
    if pa.types.is_null(one):
        return other
    if pa.types.is_null(other):
        return one
    for kind in (pa.types.is_signed_integer, pa.types.is_floating):
        if kind(first or one) and kind(second or other):
            return max(first or one, second or other, key=lambda type_: type_.bit_width)
    return None


def plain_type(type_: pa.DataType) -> pa.DataType | None:  # noqa: PLR0911 - one for each kind of type
    """Returns the type in which every engine keeps a column, or None if there is none.

    Dictionaries become their values, durations a number in their unit, unsigned integers the next larger signed ones,
    and nanoseconds microseconds.

    >>> str(plain_type(pa.dictionary(pa.int8(), pa.string()))), str(plain_type(pa.timestamp("ns", "Europe/Paris")))
    ('string', 'timestamp[us, tz=UTC]')
    """
    is_ = pa.types
    if is_.is_dictionary(type_):
        return plain_type(type_.value_type)
    if is_.is_timestamp(type_):
        return pa.timestamp("us", "UTC" if type_.tz else None)
    if is_.is_list(type_) or is_.is_large_list(type_) or is_.is_fixed_size_list(type_):
        return _rebuilt([type_.value_type], lambda types: pa.list_(types[0]))
    if is_.is_map(type_):
        return _rebuilt([type_.key_type, type_.item_type], lambda types: pa.map_(*types))
    if is_.is_struct(type_):
        fields = [type_.field(index) for index in range(type_.num_fields)]
        names = [one.name for one in fields]
        return _rebuilt(
            [one.type for one in fields],
            lambda types: pa.struct([pa.field(name, inner) for name, inner in zip(names, types, strict=True)]),
        )
    for check, plain in _PLAIN:
        if check(type_):
            return plain
    if is_.is_decimal(type_):
        return pa.decimal128(type_.precision, type_.scale) if type_.precision <= _MAX_DIGITS else None
    return type_ if any(check(type_) for check in _KEPT) else None


_MAX_DIGITS: Final = 38
"""Digits of Spark's decimals."""

_PLAIN: Final = (
    (pa.types.is_uint8, pa.int16()),
    (pa.types.is_uint16, pa.int32()),
    (pa.types.is_uint32, pa.int64()),
    (pa.types.is_uint64, pa.decimal128(20, 0)),
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_duration, pa.int64()),
    (pa.types.is_date, pa.date32()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
)
_KEPT: Final = (
    *(pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_binary),
    pa.types.is_null,
)


def _rebuilt(parts: Sequence[pa.DataType], build: Callable[[Sequence[Any]], pa.DataType]) -> pa.DataType | None:
    plain = [plain_type(part) for part in parts]
    return None if any(part is None or pa.types.is_null(part) for part in plain) else build(plain)


def _partition_type(values: Sequence[str | None]) -> pa.DataType:
    given = [value for value in values if value is not None]
    for type_, parse in ((pa.int32(), _int32), (pa.date32(), date.fromisoformat)):
        try:
            for value in given:
                parse(value)
        except ValueError:
            continue
        return type_ if given else pa.string()
    return pa.string()


def _int32(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise ValueError(text)
    return int(text)
