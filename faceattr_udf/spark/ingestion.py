"""A folder of pictures becomes an images table; what is already there unchanged is not written again."""

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession

from faceattr_udf.config import Config
from faceattr_udf.errors import TableNotFoundError
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import TableRef, absolute, file_system, holds_data, join, local_path, output_ref
from faceattr_udf.spark.safe_open import LeadsOutsideError, open_inside
from faceattr_udf.spark.schemas import IMAGES, ROW_GROUP_BYTES, arrow_type
from faceattr_udf.spark.tables import Tables

SUFFIXES: Final = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".icns", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"}
    | {".jpf", ".jpg", ".jpx", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".sgi", ".tga", ".tif", ".tiff", ".webp"}
)
"""Files that could be pictures, by the end of their names in lower case."""

_FILE_BYTES: Final = 128 * 2**20
_REPLACED_TOGETHER: Final = 200  # the embedded engine's time for a condition grows with the square of its keys
_SCHEMA: Final = pa.schema([pa.field(column.name, arrow_type(column.dataType)) for column in IMAGES])

Known = Mapping[str, tuple[str | None, int | None]]
"""image_id -> content_sha256 and size of the rows that a table has."""

_CHANGED: Final = "changed while it was read"

log = structlog.get_logger(__name__)


@dataclass
class Ingestion:
    """What an ingestion did.

    Attributes:
        table: The images table.
        format: delta, parquet or table.
        new: Rows added.
        changed: Rows whose content was replaced.
        unchanged: Rows left as they were.
        too_large: Rows, of those new and changed, without content, because the file is larger than images.max_bytes.
        refused: Files that were not taken, and why.
        bytes_written: Of content.
    """

    table: TableRef
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    too_large: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    bytes_written: int = 0

    def refuse(self, path: str, reason: str) -> None:
        """Counts a file that is not taken."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        log.warning("file refused", path=path.encode(errors="replace").decode(), reason=reason)


def ingest(
    spark: SparkSession, config: Config, folder: str, images: str, form: Literal["delta", "parquet"] = "delta"
) -> Ingestion:
    """Adds the pictures of a folder, recursively, to an images table.

    Of a file larger than `images.max_bytes` the row has the size and no content, so that jobs.enrich reports it as
    too_large; it is never read. What is not a regular file, cannot be read, or changes meanwhile is refused.

    One ingestion at a time writes to a table. Killed, it has added some of the pictures or none; the next one adds the
    others and removes what is left of its work.

    Args:
        spark: A session of `config.engine`.
        config: The configuration.
        folder: The folder; image_id is a picture's path relative to it, with slashes.
        images: The table: a path, a URI, or a catalogue name with a dot.
        form: The format of a table that does not exist yet; one that exists keeps its own.

    Returns:
        What was done.

    Raises:
        BusyError: Another ingestion is writing to the table.
        FaceattrError: The folder is missing, or the table has other columns; nothing has been written then.
    """
    root = Path(folder)
    if not root.is_dir():
        msg = f"folder {folder} does not exist; name a folder of pictures in --input"
        raise TableNotFoundError(msg)
    tables = Tables(spark, config.engine.name)
    ref = output_ref(images, ".") if "." in images and "/" not in images else TableRef(absolute(images), "delta")
    if ref.format == "delta" and _is_parquet(ref.location, form):
        ref = TableRef(ref.location, "parquet")
    tables.check(ref, IMAGES)
    done = Ingestion(ref)
    place = _place(tables, ref)
    with Lease(place, "jobs.ingest", config.runtime.lease_seconds) as lease:
        writer = _ParquetTable(place, done) if ref.format == "parquet" else _DeltaTable(tables, ref, place, done)
        writer.tidy()
        exists = tables.check(ref, IMAGES)
        known: Known = {}
        if exists:
            rows = tables.read(ref).select("image_id", "content_sha256", "size").toArrow()
            known = {str(row["image_id"]): (row["content_sha256"], row["size"]) for row in rows.to_pylist()}
        batch: list[dict[str, Any]] = []
        held = 0
        for row in _rows(root, known, config.images.max_bytes, done):
            batch.append(row)
            held += _held(row)
            if held >= _FILE_BYTES:
                lease.check()
                writer.write(batch, known)
                batch, held = [], 0
        if batch or not exists:
            lease.check()
            writer.write(batch, known)
    return done


def _place(tables: Tables, ref: TableRef) -> str:
    """The folder of the staged files and of the lease."""
    if ref.format == "table":
        warehouse = tables.spark.conf.get("spark.sql.warehouse.dir", "spark-warehouse") or "spark-warehouse"
        return join(warehouse, "_ingest", ref.location)
    return ref.location


def _is_parquet(location: str, form: str) -> bool:
    path = local_path(location)
    if path is not None and (path / "_delta_log").is_dir():
        return False
    return form == "parquet" if path is None or not holds_data(path) else True


def _rows(root: Path, known: Known, max_bytes: int, done: Ingestion) -> Iterator[dict[str, Any]]:
    """The rows that are new or changed, by rising image_id."""
    for image_id, path in sorted(_files(root, done)):
        try:
            content, size = _read(root, path, max_bytes)
        except LeadsOutsideError:
            done.refuse(image_id, "symbolic link out of the folder")
            continue
        except _RefusedError as error:
            done.refuse(image_id, str(error))
            continue
        except OSError as error:
            done.refuse(image_id, error.strerror or "unreadable")
            continue
        digest = None if content is None else sha256(content).hexdigest()
        if known.get(image_id) == (digest, size):
            done.unchanged += 1
            continue
        if content is None:
            done.too_large += 1
            log.warning("file taken without its content", path=image_id, size=size, max_bytes=max_bytes)
        yield {
            "image_id": image_id,
            "content": content,
            "content_sha256": digest,
            "path": str(path.absolute()),
            "size": size,
        }


class _RefusedError(Exception):
    """A file that is not taken; the message says why."""


def _read(root: Path, path: Path, max_bytes: int) -> tuple[bytes | None, int]:
    """Returns a file's content, None where it has more than `max_bytes`, and its size in bytes.

    Raises:
        LeadsOutsideError: A link leads out of `root`.
        _RefusedError: It changed while it was read.
        OSError: It is not a regular file, or cannot be read.
    """
    with open_inside(root, path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > max_bytes:
            return None, before.st_size
        content = file.read(before.st_size + 1)
        after = os.fstat(file.fileno())
    # Half of an upload would be stored as a damaged picture; the next run finds all of it.
    if (len(content), after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _RefusedError(_CHANGED)
    return content, before.st_size


def _held(row: Mapping[str, Any]) -> int:
    return len(row["content"] or b"")


def _files(root: Path, done: Ingestion) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        for name in folders:
            if (here / name).is_symlink():  # os.walk does not enter it, so it cannot lead in circles
                done.refuse(str(here / name), "symbolic link to a folder")
        for name in names:
            path = here / name
            if path.suffix.lower() not in SUFFIXES:
                continue
            image_id = path.relative_to(root).as_posix()
            if not image_id.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in image_id):
                done.refuse(image_id, "name is not UTF-8")
            else:
                yield image_id, path


def _write_file(location: str, rows: Iterable[dict[str, Any]]) -> None:
    """Writes one Parquet file in row groups of bounded size, at once or not at all."""
    system, name = file_system(location)
    folder, _, file = name.rpartition("/")
    system.create_dir(folder, recursive=True)
    unfinished = f"{folder}/_{file}"  # engines ignore names that begin with an underscore
    # Pictures are compressed already, and statistics of their bytes would only make the footer large.
    with pq.ParquetWriter(
        unfinished,
        _SCHEMA,
        filesystem=system,
        compression={"image_id": "zstd", "content_sha256": "zstd", "path": "zstd", "size": "zstd", "content": "none"},
        use_dictionary=False,
        write_statistics=["image_id", "content_sha256", "path", "size"],
    ) as writer:
        group: list[dict[str, Any]] = []
        held = 0
        for row in rows:
            group.append(row)
            held += _held(row)
            if held >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
                group, held = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
    system.move(unfinished, name)


class _ParquetTable:
    """A folder of Parquet files; a changed row is replaced inside its file, so it is never there twice."""

    def __init__(self, location: str, done: Ingestion) -> None:
        self._location = location
        self._done = done

    def tidy(self) -> None:
        """Removes the files that a killed ingestion had not finished."""
        system, folder = file_system(self._location)
        for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if info.base_name.startswith("_") and info.extension == "parquet":
                system.delete_file(info.path)

    def write(self, rows: list[dict[str, Any]], known: Known) -> None:
        changed = {row["image_id"]: row for row in rows if row["image_id"] in known}
        new = [row for row in rows if row["image_id"] not in known]
        if changed:
            self._replace(changed)
        if new or not changed:
            _write_file(join(self._location, f"part-{uuid.uuid4().hex}.parquet"), new)
        self._done.new += len(new)
        self._done.changed += len(changed)
        self._done.bytes_written += sum(map(_held, rows))

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
                # Row groups are bounded in bytes; so many rows of the largest pictures would not be.
                groups = (file.read_row_group(number) for number in range(file.num_row_groups))
                rows = (changed.get(row["image_id"], row) for group in groups for row in group.to_pylist())
                _write_file(join(self._location, info.base_name), rows)


class _DeltaTable:
    """A Delta table; rows reach it through staged files, so that no message between client and server holds images."""

    def __init__(self, tables: Tables, ref: TableRef, place: str, done: Ingestion) -> None:
        self._tables = tables
        self._ref = ref
        self._staging = join(place, "_ingest")
        self._done = done

    def tidy(self) -> None:
        """Removes what a killed ingestion had staged."""
        system, name = file_system(self._staging)
        if system.get_file_info(name).type == fs.FileType.Directory:
            system.delete_dir(name)

    def write(self, rows: list[dict[str, Any]], known: Known) -> None:
        self._tables.ensure(self._ref, IMAGES)
        changed = [row for row in rows if row["image_id"] in known]
        new = [row for row in rows if row["image_id"] not in known]
        for first in range(0, len(changed), _REPLACED_TOGETHER):
            # In one commit, so that a run that reads meanwhile finds either the old picture or the new one.
            some = changed[first : first + _REPLACED_TOGETHER]
            self._tables.replace(self._ref, self._staged(some), "image_id", [row["image_id"] for row in some])
        if new:
            self._tables.append(self._ref, self._staged(new))
        self.tidy()
        self._done.new += len(new)
        self._done.changed += len(changed)
        self._done.bytes_written += sum(map(_held, rows))

    def _staged(self, rows: list[dict[str, Any]]) -> DataFrame:
        file = join(self._staging, f"{uuid.uuid4().hex}.parquet")
        _write_file(file, rows)
        return self._tables.spark.read.schema(IMAGES).parquet(file)
