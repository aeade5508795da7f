"""Writes a folder of image files to an images table; unchanged files are not written again."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from pyarrow import fs
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError, TableNotFoundError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.file_choice import FileChoice, first_bytes
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.images_writer import Change, DeltaTable, ParquetTable, content_bytes
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import TableRef, ingested_ref, join, local_path
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.safe_open import OutsideFolderError, open_inside
from faceattr_udf.spark.schemas import IMAGES
from faceattr_udf.spark.store_files import ChangedError, StoreFolder
from faceattr_udf.spark.store_places import check_store_place
from faceattr_udf.spark.tables import Tables

_FILE_BYTES: Final = 128 * 2**20
"""Image bytes in a Parquet file of the table. They are held in memory until the file is written."""

_FILE_ROWS: Final = 100_000
"""Rows in a Parquet file of the table; bounds files with little or no content."""

_LOOKUP_FILES: Final = 20_000
"""Files that are compared with the table at once. Their paths and rows are held in memory: about 20 MB."""

_CHANGED: Final = "changed while it was read"

_Reader = Callable[[], tuple[bytes | None, int]]
"""Returns a file's content, None if it is too large, and its size."""

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

    def add(self, changes: Sequence[Change]) -> None:
        """Counts rows that were written."""
        n_new = sum(change.is_new for change in changes)
        self.new += n_new
        self.changed += len(changes) - n_new
        self.bytes_written += sum(content_bytes(change.row) for change in changes)


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
        spark: A session, from `start` or the caller's own.
        config: The configuration.
        folder: The folder, a path or a URI; image_id is a file's path relative to it, with slashes.
        images: The table: a path, a URI, or a catalog name with a dot.
        table_format: The format of a new table; an existing table keeps its format.

    Returns:
        The numbers of rows and files by outcome.

    Raises:
        BusyError: Another ingestion is writing to the table.
        FaceattrError: The folder is missing, or the table has other columns; nothing has been written then.
    """
    with adopted(spark, config) as fitting:
        source = _source(folder)
        report = IngestReport(ingested_ref(qualified(spark, images), table_format))
        with explained(f"the images table {report.table} cannot be written", "check its location and the access to it"):
            _ingest(Tables(spark, fitting.engine.name), fitting, source, report)
        return report


def _ingest(tables: Tables, config: Config, source: "_LocalFolder | _StoreFolder", report: IngestReport) -> None:
    ref = report.table
    check_store_place(config.engine.name, ref.location)
    tables.check(ref, IMAGES)
    location = _work_location(tables, ref)
    with Lease(location, "jobs.ingest", config.runtime.lease_seconds) as lease:
        writer = ParquetTable(location) if ref.format == "parquet" else DeltaTable(tables, ref, location)
        writer.remove_leftovers()
        exists = tables.check(ref, IMAGES)
        known = _KnownRows(tables, ref if exists else None)
        choice = FileChoice(config.ingest)
        for batch in _batches(_changes(source, known, config.images.max_bytes, report, choice)):
            lease.check()
            writer.write(batch)
            report.add(batch)
            exists = True
        if not exists:
            lease.check()
            writer.write([])
    report.add_choice(choice)


def _source(folder: str) -> "_LocalFolder | _StoreFolder":
    root = local_path(folder)
    try:
        source = _StoreFolder(StoreFolder(folder)) if root is None else _LocalFolder(root)
        found = source.exists()
    except OSError as error:
        msg = f"folder {folder} cannot be read ({first_line(error)}); set --input to one that can be listed"
        raise EngineError(msg) from error
    if not found:
        msg = f"folder {folder} does not exist; set --input to a folder of images"
        raise TableNotFoundError(msg)
    return source


class _LocalFolder:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def exists(self) -> bool:
        return self._root.is_dir()

    def files(self, report: IngestReport, choice: FileChoice) -> Iterator[tuple[str, Path]]:
        return _files(self._root, report, choice)

    def contents(self, files: Sequence[tuple[str, Path]], max_bytes: int) -> Iterator[tuple[str, str, _Reader]]:
        for image_id, path in files:
            yield image_id, str(path.absolute()), partial(_read, self._root, path, max_bytes)


class _StoreFolder:
    """A folder in an object store."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder

    def exists(self) -> bool:
        return self._folder.exists()

    def files(self, report: IngestReport, choice: FileChoice) -> Iterator[tuple[str, fs.FileInfo]]:
        for image_id, info in self._folder.files(choice.skips, report.refuse):
            if choice.takes(image_id, partial(self._folder.first_bytes, info)):
                yield image_id, info

    def contents(self, files: Sequence[tuple[str, fs.FileInfo]], max_bytes: int) -> Iterator[tuple[str, str, _Reader]]:
        for image_id, read in self._folder.read_ahead(files, max_bytes):
            yield image_id, self._folder.location(image_id), read


def _work_location(tables: Tables, ref: TableRef) -> str:
    """Returns the folder of the staged files and of the lease."""
    if ref.format == "table":
        warehouse = tables.spark.conf.get("spark.sql.warehouse.dir", "spark-warehouse") or "spark-warehouse"
        return join(warehouse, "_ingest", ref.location)
    return ref.location


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
    source: _LocalFolder | _StoreFolder, known: _KnownRows, max_bytes: int, report: IngestReport, choice: FileChoice
) -> Iterator[Change]:
    """Yields the rows that are new or changed, by rising image_id."""
    files: Iterator[tuple[str, Any]] = source.files(report, choice)
    while some := list(islice(files, _LOOKUP_FILES)):
        rows = known.find([image_id for image_id, _ in some])
        for image_id, path, read in source.contents(some, max_bytes):
            try:
                content, size = read()
            except OutsideFolderError:
                report.refuse(image_id, "symbolic link out of the folder")
                continue
            except _RefusedError as error:
                report.refuse(image_id, str(error))
                continue
            except ChangedError:
                report.refuse(image_id, _CHANGED)
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
                "path": path,
                "size": size,
            }
            yield Change(row, is_new=image_id not in rows)


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


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Groups rows into batches of bounded size."""
    batch: list[Change] = []
    buffered_bytes = 0
    for change in changes:
        batch.append(change)
        buffered_bytes += content_bytes(change.row)
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
            if not choice.takes(image_id, partial(first_bytes, root, image_id)):
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
