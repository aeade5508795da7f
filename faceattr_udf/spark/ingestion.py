"""Writes a folder of image files to an images table; unchanged files are not written again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Any, Final, Literal

import structlog
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.file_choice import FileChoice
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.images_writer import Change, DeltaTable, ParquetTable, content_bytes
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import TableRef, ingested_ref, join
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.safe_open import OutsideFolderError
from faceattr_udf.spark.schemas import IMAGES
from faceattr_udf.spark.source_folders import CHANGED, LocalSource, RefusedError, StoreSource, open_source
from faceattr_udf.spark.store_files import ChangedError
from faceattr_udf.spark.store_places import check_store_place
from faceattr_udf.spark.tables import Tables
from faceattr_udf.spark.worker_reads import WorkerReads, WorkerReport, is_hidden

_FILE_BYTES: Final = 128 * 2**20
"""Image bytes in a Parquet file of the table. They are held in memory until the file is written."""

_FILE_ROWS: Final = 100_000
"""Rows in a Parquet file of the table; bounds files with little or no content."""

_LOOKUP_FILES: Final = 20_000
"""Files that are compared with the table at once. Their paths and rows are held in memory: about 20 MB."""

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

    def add_workers(self, done: WorkerReport) -> None:
        """Counts what Spark's workers wrote."""
        self.new += done.counts.get("new", 0)
        self.changed += done.counts.get("changed", 0)
        self.unchanged += done.counts.get("unchanged", 0)
        self.too_large += done.too_large
        self.bytes_written += done.bytes_written
        for image_ids, reason in ((done.changed_while_read, CHANGED), (done.vanished, "vanished before it was read")):
            for image_id in image_ids:
                self.refuse(image_id, reason)

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
        source = open_source(folder)
        report = IngestReport(ingested_ref(qualified(spark, images), table_format))
        with explained(f"the images table {report.table} cannot be written", "check its location and the access to it"):
            _ingest(Tables(spark, fitting.engine.name), fitting, source, report)
        return report


def _ingest(tables: Tables, config: Config, source: LocalSource | StoreSource, report: IngestReport) -> None:
    ref = report.table
    check_store_place(config.engine.name, ref.location)
    tables.check(ref, IMAGES)
    location = work_location(tables, ref)
    with Lease(location, "jobs.ingest", config.runtime.lease_seconds) as lease:
        writer = ParquetTable(location) if ref.format == "parquet" else DeltaTable(tables, ref, location)
        writer.remove_leftovers()
        exists = tables.check(ref, IMAGES)
        known = _KnownRows(tables, ref if exists else None)
        choice, max_bytes = FileChoice(config.ingest), config.images.max_bytes
        workers = _workers(tables, config, source, writer, lease)
        files: Iterator[tuple[str, Any]] = source.files(report.refuse, choice)
        while some := list(islice(files, _LOOKUP_FILES)):
            rows = known.find([image_id for image_id, _ in some])
            if workers is not None:
                lease.check()
                listed = [(name, info.size) for name, info in some if not is_hidden(name)]
                if listed and (done := workers.write(listed, rows)) is not None:
                    report.add_workers(done)
                    some = [(name, info) for name, info in some if is_hidden(name)]
            for batch in _batches(_changes(source, some, rows, max_bytes, report)):
                lease.check()
                writer.write(batch)
                report.add(batch)
        if not exists and not report.new:
            lease.check()
            writer.write([])
    report.add_choice(choice)


def _workers(
    tables: Tables, config: Config, source: LocalSource | StoreSource, writer: ParquetTable | DeltaTable, lease: Lease
) -> WorkerReads | None:
    """Returns the workers' way into the table; None where only the driver reads and writes.

    The files of a store are as near to every worker as to the driver; those of a folder may be on the driver only.
    """
    if config.engine.name == "sail" or not isinstance(source, StoreSource) or not isinstance(writer, DeltaTable):
        return None
    return WorkerReads(tables, writer, source.location, config.images.max_bytes, lease.check)


def work_location(tables: Tables, ref: TableRef) -> str:
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
            image_ids: Not empty.
        """
        if self._ref is None:
            return {}
        own = F.col("image_id")
        # The range lets the engine skip files by their statistics.
        rows = self._tables.read(self._ref).where((own >= min(image_ids)) & (own <= max(image_ids)))
        wanted = self._tables.spark.createDataFrame([(image_id,) for image_id in image_ids], "image_id string")
        found = rows.select("image_id", "content_sha256", "size").join(F.broadcast(wanted), "image_id", "left_semi")
        return {row["image_id"]: (row["content_sha256"], row["size"]) for row in found.collect()}


def _changes(
    source: LocalSource | StoreSource,
    files: Sequence[tuple[str, Any]],
    rows: Mapping[str, tuple[str | None, int | None]],
    max_bytes: int,
    report: IngestReport,
) -> Iterator[Change]:
    """Yields the rows of the files that are new or changed."""
    for image_id, path, read in source.contents(files, max_bytes):
        try:
            content, size = read()
        except OutsideFolderError:
            report.refuse(image_id, "symbolic link out of the folder")
            continue
        except RefusedError as error:
            report.refuse(image_id, str(error))
            continue
        except ChangedError:
            report.refuse(image_id, CHANGED)
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
        row = {"image_id": image_id, "content": content, "content_sha256": digest, "path": path, "size": size}
        yield Change(row, is_new=image_id not in rows)


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
