"""Searches files for erased ids: decoded Parquet columns and statistics, logs, and any other file byte by byte."""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

_SHORT: Final = 4
"""Ids with fewer characters occur by chance; they are looked for in columns of ids alone."""

_BATCH_ROWS: Final = 2**16

_OF_AN_ID: Final = rb"[\w\-./\x80-\xff]"
"""A byte that goes on with an id: where one stands before or after a match, another id was found."""


class Needles:
    """What is searched for.

    Args:
        values: Ids and hashes.
        id_columns: The names of columns that hold ids; short ids, and ids that are numbers there, are looked for in
            these alone.
    """

    def __init__(self, values: Collection[str], id_columns: Collection[str]) -> None:
        self.id_columns = frozenset(id_columns)
        self._all = pa.array(sorted(set(values)), pa.string())
        long = sorted({value for value in values if len(value) >= _SHORT})
        self._long = pa.array(long, pa.string())
        self.n_short = len(self._all) - len(long)
        self._short = frozenset(value.encode() for value in values if len(value) < _SHORT)
        self._spelled = sorted({spelling for value in long for spelling in _spellings(value)})
        names = "|".join(re.escape(name) for name in sorted(self.id_columns))
        # A value of a column of ids in JSON, which may itself be text in JSON.
        self._of_column = re.compile(
            rf"\\*\"(?:{names})\\*\"\s*:\s*(?:\\*\"([^\"\\]*)\\*\"|(-?\d+))".encode() if names else rb"(?!)()()"
        )

    def in_column(self, name: str, values: "pa.Array[Any]") -> bool:
        """Checks the values of a column of strings or whole numbers."""
        wanted = self._long
        if name in self.id_columns:
            wanted = self._all
            if not pa.types.is_string(values.type):
                values = values.cast(pa.string())
        elif not _is_text(values.type):
            return False
        return bool(len(wanted)) and bool(pc.any(pc.is_in(values, value_set=wanted.cast(values.type))).as_py())

    def in_text(self, text: bytes) -> bool:
        """Checks a text, in which ids may be written as JSON or as a URL writes them."""
        if any(self._stands_alone(spelling, text) for spelling in self._spelled if spelling in text):
            return True
        return bool(self._short) and any(
            (found[1] if found[1] is not None else found[2]) in self._short for found in self._of_column.finditer(text)
        )

    @staticmethod
    def _stands_alone(spelling: bytes, text: bytes) -> bool:
        # An escaped character is one letter of an id: its own backslashes begin it, and it may go on with the id.
        before = b"(?<!" + _OF_AN_ID + b")" + (rb"(?<!\\)" if spelling.startswith(b"\\") else b"")
        pattern = before + re.escape(spelling) + b"(?!" + _OF_AN_ID + rb"|\\+u[0-9a-f]{4})"
        if re.search(pattern, text):
            return True
        # The folder of a partition: column=id/file.
        return re.search(b"=" + re.escape(spelling) + b"/", text) is not None


def _spellings(value: str) -> Iterator[bytes]:
    yield value.encode()
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once.encode()
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1].encode()
    yield quote(value).encode()
    yield quote(value, safe="").encode()


@dataclass
class SearchReport:
    """What was searched, and what was found.

    Attributes:
        files: Files that were opened.
        log_files: Those of them in Delta's logs.
        bytes: Their size.
        hits: Files that hold what was searched for.
        unreadable: Files that could not be opened or decoded.
    """

    files: int = 0
    log_files: int = 0
    bytes: int = 0
    hits: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def search(
    system: fs.FileSystem, folder: str, needles: Needles, report: SearchReport, skip: Collection[str] = ()
) -> None:
    """Opens every file below a folder and searches it.

    Binary columns are left out: pictures hold no ids.

    Args:
        system: The file system.
        folder: A folder in it.
        needles: What to search for.
        report: Is added to.
        skip: Folders below it that are left out, as paths relative to it.
    """
    root = folder.rstrip("/")
    for info in system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True)):
        name = info.path[len(root) + 1 :]
        if info.type != fs.FileType.File or any(name.startswith(f"{place}/") for place in skip):
            continue
        report.files += 1
        report.bytes += info.size or 0
        in_log = "_delta_log" in PurePosixPath(name).parts
        report.log_files += in_log
        try:
            found = needles.in_text(name.encode()) or _in_file(system, info.path, needles, in_log=in_log)
        except (OSError, pa.ArrowException):
            report.unreadable.append(info.path)
            continue
        if found:
            report.hits.append(info.path)


def _in_file(system: fs.FileSystem, path: str, needles: Needles, *, in_log: bool) -> bool:
    if not path.endswith(".parquet"):
        with system.open_input_stream(path, compression=None) as stream:
            return needles.in_text(stream.read())
    with system.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        return _in_footer(file.metadata, needles) or any(
            needles.in_column(name, values) or (in_log and _is_text(values.type) and _in_texts(values, needles))
            for name, values in _columns(file, needles)
        )


def _in_footer(metadata: pq.FileMetaData, needles: Needles) -> bool:
    """Checks the least and greatest values of every column, and what the writer says about the file."""
    texts = [text for pair in (metadata.metadata or {}).items() for text in pair]
    if any(needles.in_text(text) for text in texts):
        return True
    limits: dict[str, list[str]] = {}
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            statistics = column.statistics
            if statistics is not None and statistics.has_min_max:
                ends = [end for end in (statistics.min, statistics.max) if isinstance(end, str | int)]
                limits.setdefault(column.path_in_schema.rpartition(".")[2], []).extend(map(str, ends))
    return any(needles.in_column(name, pa.array(ends, pa.string())) for name, ends in limits.items())


def _columns(file: pq.ParquetFile, needles: Needles) -> Iterator[tuple[str, "pa.Array[Any]"]]:
    """Yields the values of all columns that may hold ids, with the names of their leaves."""
    schema = file.schema_arrow
    wanted = [leaf.name for leaf in schema if _may_hold_ids(leaf, needles)]
    if wanted:
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
            for column in batch.schema.names:
                yield from _leaves(column, batch.column(column), needles)


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def _may_hold_ids(column: "pa.Field[Any]", needles: Needles) -> bool:
    type_ = column.type
    if pa.types.is_nested(type_):
        return any(_may_hold_ids(type_.field(number), needles) for number in range(type_.num_fields))
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return _is_text(type_) or (pa.types.is_integer(type_) and column.name in needles.id_columns)


def _leaves(name: str, values: "pa.Array[Any]", needles: Needles) -> Iterator[tuple[str, "pa.Array[Any]"]]:
    type_ = values.type
    if isinstance(values, pa.StructArray):
        for number in range(type_.num_fields):
            yield from _leaves(type_.field(number).name, values.field(number), needles)
    elif isinstance(values, pa.MapArray):
        yield from _leaves(name, values.keys, needles)
        yield from _leaves(name, values.items, needles)
    elif isinstance(values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        yield from _leaves(name, values.flatten(), needles)
    elif isinstance(values, pa.DictionaryArray):
        yield from _leaves(name, values.dictionary, needles)
    elif _is_text(type_) or (pa.types.is_integer(type_) and name in needles.id_columns):
        yield name, values


def _in_texts(values: "pa.Array[Any]", needles: Needles) -> bool:
    """Checks long texts: Delta's statistics are JSON in a column."""
    return needles.in_text("\n".join(_present(values.to_pylist())).encode())


def _present(texts: Iterable[str | None]) -> Iterator[str]:
    return (text for text in texts if text is not None)
