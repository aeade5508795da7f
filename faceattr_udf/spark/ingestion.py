"""Writes a folder of image files to an images table; unchanged files are not written again."""

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import TableNotFoundError
from faceattr_udf.spark.file_choice import FileChoice
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import TableRef, absolute, file_system, holds_data, join, local_path, output_ref
from faceattr_udf.spark.safe_open import OutsideFolderError, open_inside
from faceattr_udf.spark.schemas import IMAGES, ROW_GROUP_BYTES, arrow_type
from faceattr_udf.spark.tables import Tables

_FILE_BYTES: Final = 128 * 2**20
"""Image bytes in a Parquet file of the table. They are held in memory until the file is written."""

_FILE_ROWS: Final = 100_000
"""Rows in a Parquet file of the table; bounds files with little or no content."""

_LOOKUP_FILES: Final = 20_000
"""Files that are compared with the table at once. Their paths and rows are held in memory: about 20 MB."""

_REPLACE_ROWS: Final = 200
"""Rows replaced by one commit: the embedded engine's time for a condition grows with the square of its keys."""

_SCHEMA: Final = pa.schema([pa.field(column.name, arrow_type(column.dataType)) for column in IMAGES])

_CHANGED: Final = "changed while it was read"

log = structlog.get_logger(__name__)


@dataclass
class IngestReport:
    """The outcome of an ingestion.

    Attributes:
        table: The images table; its `format` is "delta", "parquet" or "table".
        new: Rows added.
        changed: Rows whose content was replaced.
        unchanged: Rows left untouched.
        too_large: New or changed rows without content, because the file is larger than images.max_bytes.
        refused: Number of refused files per reason.
        left_out: Number of files per suffix that are no images; the suffix is "" if there is none.
        system: Number of system files and folders that `ingest.skip_system_files` skipped.
        excluded: Number of files that `ingest.include` and `ingest.exclude` left out.
        bytes_written: Image bytes written.
    """

    table: TableRef
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    too_large: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    system: int = 0
    excluded: int = 0
    bytes_written: int = 0

    def refuse(self, path: str, reason: str) -> None:
        """Counts and logs a refused file."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        log.warning("file_refused", path=path.encode(errors="replace").decode(), reason=reason)

    def add_choice(self, choice: FileChoice) -> None:
        """Takes over the counts of files that were left out."""
        self.left_out, self.system, self.excluded = choice.left_out, choice.system, choice.excluded

    def add(self, changes: Sequence["_Change"]) -> None:
        """Counts rows that were written."""
        n_new = sum(change.is_new for change in changes)
        self.new += n_new
        self.changed += len(changes) - n_new
        self.bytes_written += sum(_content_bytes(change.row) for change in changes)


@dataclass(frozen=True)
class _Change:
    """A row to write.

    Attributes:
        row: The row.
        is_new: True if the table has no row with this image_id yet.
    """

    row: dict[str, Any]
    is_new: bool


def ingest(
    spark: SparkSession, config: Config, folder: str, images: str, table_format: Literal["delta", "parquet"] = "delta"
) -> IngestReport:
    """Adds the image files of a folder and its subfolders to an images table.

    A file larger than `images.max_bytes` is never read: its row has a size and no content, and jobs.enrich reports it
    as too_large. Files that are not regular, not readable or change while they are read are refused.

    A table has one ingestion at a time. If it is killed, some of the images are in the table; the next ingestion adds
    the others and removes leftovers. Memory depends neither on the table nor on the folder, except that the names in
    one folder are sorted in memory.

    Args:
        spark: A session of `config.engine`.
        config: The configuration.
        folder: The folder; image_id is a file's path relative to it, with slashes.
        images: The table: a path, a URI, or a catalog name with a dot.
        table_format: The format of a new table; an existing table keeps its format.

    Returns:
        The numbers of rows and files by outcome.

    Raises:
        BusyError: Another ingestion is writing to the table.
        FaceattrError: The folder is missing, or the table has other columns; nothing has been written then.
    """
    root = Path(folder)
    if not root.is_dir():
        msg = f"folder {folder} does not exist; set --input to a folder of images"
        raise TableNotFoundError(msg)
    tables = Tables(spark, config.engine.name)
    ref = output_ref(images, ".") if "." in images and "/" not in images else TableRef(absolute(images), "delta")
    if ref.format == "delta" and _is_parquet(ref.location, table_format):
        ref = TableRef(ref.location, "parquet")
    tables.check(ref, IMAGES)
    report = IngestReport(ref)
    location = _work_location(tables, ref)
    with Lease(location, "jobs.ingest", config.runtime.lease_seconds) as lease:
        writer = _ParquetTable(location) if ref.format == "parquet" else _DeltaTable(tables, ref, location)
        writer.remove_leftovers()
        exists = tables.check(ref, IMAGES)
        known = _KnownRows(tables, ref if exists else None)
        choice = FileChoice(config.ingest)
        for batch in _batches(_changes(root, known, config.images.max_bytes, report, choice)):
            lease.check()
            writer.write(batch)
            report.add(batch)
            exists = True
        if not exists:
            lease.check()
            writer.write([])
    report.add_choice(choice)
    return report


def _work_location(tables: Tables, ref: TableRef) -> str:
    """Returns the folder of the staged files and of the lease."""
    if ref.format == "table":
        warehouse = tables.spark.conf.get("spark.sql.warehouse.dir", "spark-warehouse") or "spark-warehouse"
        return join(warehouse, "_ingest", ref.location)
    return ref.location


def _is_parquet(location: str, table_format: str) -> bool:
    path = local_path(location)
    if path is not None and (path / "_delta_log").is_dir():
        return False
    return table_format == "parquet" if path is None or not holds_data(path) else True


class _KnownRows:
    """Looks up rows of the table by image_id.

    The engine selects the rows, because the whole table would not fit into the driver's memory.
    """

    def __init__(self, tables: Tables, ref: TableRef | None) -> None:
        self._tables = tables
        self._ref = ref

    def find(self, image_ids: Sequence[str]) -> dict[str, tuple[str | None, int | None]]:
        """Returns content_sha256 and size of the rows with these image_ids, by image_id.

        Args:
            image_ids: By rising value, not empty.
        """
        if self._ref is None:
            return {}
        own = F.col("image_id")
        # The range lets the engine skip files by their statistics.
        rows = self._tables.read(self._ref).where((own >= image_ids[0]) & (own <= image_ids[-1]))
        wanted = self._tables.spark.createDataFrame([(image_id,) for image_id in image_ids], "image_id string")
        found = rows.select("image_id", "content_sha256", "size").join(F.broadcast(wanted), "image_id", "left_semi")
        return {row["image_id"]: (row["content_sha256"], row["size"]) for row in found.collect()}


def _changes(
    root: Path, known: _KnownRows, max_bytes: int, report: IngestReport, choice: FileChoice
) -> Iterator[_Change]:
    """Yields the rows that are new or changed, by rising image_id."""
    files = _files(root, report, choice)
    while some := list(islice(files, _LOOKUP_FILES)):
        rows = known.find([image_id for image_id, _ in some])
        for image_id, path in some:
            try:
                content, size = _read(root, path, max_bytes)
            except OutsideFolderError:
                report.refuse(image_id, "symbolic link out of the folder")
                continue
            except _RefusedError as error:
                report.refuse(image_id, str(error))
                continue
            except OSError as error:
                report.refuse(image_id, error.strerror or "unreadable")
                continue
            digest = None if content is None else sha256(content).hexdigest()
            if rows.get(image_id) == (digest, size):
                report.unchanged += 1
                continue
            if content is None:
                report.too_large += 1
                log.warning("content_left_out", path=image_id, size=size, max_bytes=max_bytes)
            row = {
                "image_id": image_id,
                "content": content,
                "content_sha256": digest,
                "path": str(path.absolute()),
                "size": size,
            }
            yield _Change(row, is_new=image_id not in rows)


class _RefusedError(Exception):
    """A file is refused; the message is the reason."""


def _read(root: Path, path: Path, max_bytes: int) -> tuple[bytes | None, int]:
    """Returns a file's content and its size in bytes; the content is None if it is larger than `max_bytes`.

    Raises:
        OutsideFolderError: A link leads out of `root`.
        _RefusedError: The file changed while it was read.
        OSError: The file is not regular or not readable.
    """
    with open_inside(root, path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > max_bytes:
            return None, before.st_size
        content = file.read(before.st_size + 1)
        after = os.fstat(file.fileno())
    # Half an upload would be stored as a damaged image. The next run will find the whole file.
    if (len(content), after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _RefusedError(_CHANGED)
    return content, before.st_size


def _content_bytes(row: Mapping[str, Any]) -> int:
    return len(row["content"] or b"")


def _batches(changes: Iterable[_Change]) -> Iterator[list[_Change]]:
    """Groups rows into batches of bounded size."""
    batch: list[_Change] = []
    buffered_bytes = 0
    for change in changes:
        batch.append(change)
        buffered_bytes += _content_bytes(change.row)
        if buffered_bytes >= _FILE_BYTES or len(batch) >= _FILE_ROWS:
            yield batch
            batch, buffered_bytes = [], 0
    if batch:
        yield batch


def _files(root: Path, report: IngestReport, choice: FileChoice) -> Iterator[tuple[str, Path]]:
    """Yields the image_id and path of every image file, by rising image_id."""
    levels = [_entries(root, report, choice)]
    while levels:
        path, is_folder = next(levels[-1], (None, False))
        if path is None:
            levels.pop()
        elif not is_folder:
            image_id = path.relative_to(root).as_posix()
            if not choice.takes(root, image_id):
                continue
            try:
                image_id.encode()
            except UnicodeEncodeError:
                report.refuse(image_id, "name is not UTF-8")
            else:
                yield image_id, path
        elif path.is_symlink():  # not followed, so that links cannot lead in circles
            report.refuse(str(path), "symbolic link to a folder")
        else:
            levels.append(_entries(path, report, choice))


def _entries(folder: Path, report: IngestReport, choice: FileChoice) -> Iterator[tuple[Path, bool]]:
    """Yields the files and subfolders of a folder in the order of their image_ids.

    A subfolder sorts by its name with a slash, as in the image_ids below it: "a.jpg" < "a/b.jpg" < "a0.jpg".

    Returns:
        Paths, and whether each is a folder.
    """
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = _is_folder(entry)
                if not choice.skips(entry.name, is_folder=is_folder):
                    found.append((f"{entry.name}/" if is_folder else entry.name, is_folder))
    except OSError as error:
        report.refuse(str(folder), error.strerror or "unreadable")
    for name, is_folder in sorted(found):
        yield folder / name, is_folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a cycle of links, or a missing permission
        return False


def _write_file(location: str, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a Parquet file in row groups of bounded size; the file appears only when it is complete."""
    system, name = file_system(location)
    folder, _, file = name.rpartition("/")
    system.create_dir(folder, recursive=True)
    unfinished = f"{folder}/_{file}"  # engines ignore names that begin with an underscore
    # Images are compressed already, and statistics of their bytes would only enlarge the footer.
    with pq.ParquetWriter(
        unfinished,
        _SCHEMA,
        filesystem=system,
        compression={"image_id": "zstd", "content_sha256": "zstd", "path": "zstd", "size": "zstd", "content": "none"},
        use_dictionary=False,
        write_statistics=["image_id", "content_sha256", "path", "size"],
    ) as writer:
        group: list[dict[str, Any]] = []
        buffered_bytes = 0
        for row in rows:
            group.append(row)
            buffered_bytes += _content_bytes(row)
            if buffered_bytes >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
                group, buffered_bytes = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
    system.move(unfinished, name)


class _ParquetTable:
    """A folder of Parquet files. A changed row is replaced in its file, so no image_id is ever there twice."""

    def __init__(self, location: str) -> None:
        self._location = location

    def remove_leftovers(self) -> None:
        """Removes the unfinished files of a killed ingestion."""
        system, folder = file_system(self._location)
        for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if info.base_name.startswith("_") and info.extension == "parquet":
                system.delete_file(info.path)

    def write(self, changes: Sequence[_Change]) -> None:
        """Writes rows; without any, an empty file that makes the folder a table."""
        changed = {change.row["image_id"]: change.row for change in changes if not change.is_new}
        new = [change.row for change in changes if change.is_new]
        if changed:
            self._replace(changed)
        if new or not changed:
            _write_file(join(self._location, f"part-{uuid.uuid4().hex}.parquet"), new)

    def _replace(self, changed: dict[str, dict[str, Any]]) -> None:
        system, folder = file_system(self._location)
        for info in system.get_file_info(fs.FileSelector(folder)):
            if not info.base_name.endswith(".parquet") or info.base_name.startswith(("_", ".")):
                continue
            ids = pq.read_table(info.path, columns=["image_id"], filesystem=system).column(0).to_pylist()
            if changed.keys().isdisjoint(ids):
                continue
            with system.open_input_file(info.path) as source:
                file = pq.ParquetFile(source)
                # Read by row group, whose size is bounded in bytes.
                groups = (file.read_row_group(number) for number in range(file.num_row_groups))
                rows = (changed.get(row["image_id"], row) for group in groups for row in group.to_pylist())
                _write_file(join(self._location, info.base_name), rows)


class _DeltaTable:
    """A Delta table. Rows reach it through staged Parquet files, so no message from client to server holds images."""

    def __init__(self, tables: Tables, ref: TableRef, location: str) -> None:
        self._tables = tables
        self._ref = ref
        self._staging = join(location, "_ingest")

    def remove_leftovers(self) -> None:
        """Removes the staged files of a killed ingestion."""
        system, name = file_system(self._staging)
        if system.get_file_info(name).type == fs.FileType.Directory:
            system.delete_dir(name)

    def write(self, changes: Sequence[_Change]) -> None:
        """Writes rows; without any, makes an empty table."""
        self._tables.ensure(self._ref, IMAGES)
        changed = [change.row for change in changes if not change.is_new]
        new = [change.row for change in changes if change.is_new]
        for first in range(0, len(changed), _REPLACE_ROWS):
            # In one commit, so that a concurrent reader finds either the old image or the new one.
            some = changed[first : first + _REPLACE_ROWS]
            self._tables.replace(self._ref, self._staged(some), "image_id", [row["image_id"] for row in some])
        if new:
            self._tables.append(self._ref, self._staged(new))
        self.remove_leftovers()

    def _staged(self, rows: list[dict[str, Any]]) -> DataFrame:
        file = join(self._staging, f"{uuid.uuid4().hex}.parquet")
        _write_file(file, rows)
        return self._tables.spark.read.schema(IMAGES).parquet(file)
