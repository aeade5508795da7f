"""Ingestion of a store's files by Spark's workers: the driver lists them, the workers read and write them."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.spark.engine_errors import is_engine_error
from faceattr_udf.spark.images_writer import DeltaTable
from faceattr_udf.spark.locations import join
from faceattr_udf.spark.schemas import IMAGES, ROW_GROUP_BYTES
from faceattr_udf.spark.tables import Tables, is_not_found

_LISTED: Final = "image_id string, path string, size long, is_new boolean, old_sha256 string, old_size long"
_FILE_BYTES: Final = 128 * 2**20
"""Image bytes in a file of the table, about."""

_STAGED: Final = [*IMAGES.fieldNames(), "outcome"]
_BEFORE_PATH: Final = r"^[A-Za-z][A-Za-z0-9+.-]*:(//[^/]*)?"
"""Scheme and store of a URI. Connectors may name the same store differently, so files are told by what follows."""

_NO_CONNECTOR: Final = re.compile("UnsupportedFileSystem|No FileSystem for scheme")


@dataclass
class WorkerReport:
    """What the workers did with one lot of files.

    Attributes:
        counts: Number of files per outcome: "new", "changed", "unchanged".
        changed: image_ids of the changed rows.
        too_large: New or changed rows without content.
        bytes_written: Image bytes of new and changed rows.
        changed_while_read: image_ids of files with another size than listed.
        vanished: image_ids of files that were gone when they were read.
    """

    counts: dict[str, int] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    too_large: int = 0
    bytes_written: int = 0
    changed_while_read: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)


def is_hidden(image_id: str) -> bool:
    """Checks whether Spark passes over a file because of its name.

    >>> [is_hidden(image_id) for image_id in ("a/_b.jpg", ".c.jpg", "_d/e.jpg")]
    [True, True, False]
    """
    return PurePosixPath(image_id).name.startswith(("_", "."))


class WorkerReads:
    """Reads listed files on Spark's workers and writes the new and changed ones to a Delta table."""

    def __init__(
        self,
        tables: Tables,
        table: DeltaTable,
        location: Callable[[str], str],
        max_bytes: int,
        before_commit: Callable[[], object],
    ) -> None:
        """Binds a folder and a table.

        Args:
            tables: Table operations.
            table: The images table.
            location: Returns the URI of the file with an image_id.
            max_bytes: Larger files are not read; their rows have no content.
            before_commit: Called after the files are read; may raise to prevent the commit.
        """
        self._before_commit = before_commit
        self._tables = tables
        self._table = table
        self._location = location
        self._max_bytes = max_bytes

    def write(
        self, files: Sequence[tuple[str, int]], known: Mapping[str, tuple[str | None, int | None]]
    ) -> WorkerReport | None:
        """Writes the files that are new or changed.

        Args:
            files: image_id and size of each file; none is hidden, see `is_hidden`.
            known: image_id -> content_sha256 and size of the rows that the table has.

        Returns:
            The outcomes. None if a file was gone before Spark looked for it, or if Spark has no connector for the
            store, which the driver reaches through Arrow: then nothing is written.
        """
        located = {image_id: self._location(image_id) for image_id, _ in files}
        staging = join(self._table.staging, uuid.uuid4().hex)
        try:
            read = _with_outcome(self._contents(files, located, known))
            read.write.option("parquet.block.size", ROW_GROUP_BYTES).parquet(staging)
        except Exception as error:  # py4j and the Connect client raise unrelated types
            if is_engine_error(error) and (is_not_found(error) or _NO_CONNECTOR.search(str(error))):
                return None
            raise
        # Read once only: a file may change between two reads.
        staged = self._tables.spark.read.option("__globPaths__", "false").parquet(staging)
        report = self._report(staged, list(located))
        self._before_commit()
        images = staged.select(*IMAGES.fieldNames())
        self._table.replace(report.changed, lambda some: images.where(F.col("image_id").isin(list(some))))
        if report.counts.get("new"):
            new = staged.where("outcome = 'new'").select(*IMAGES.fieldNames())
            self._table.append(new.coalesce(1 + report.bytes_written // _FILE_BYTES))
        self._table.remove_leftovers()
        return report

    def _contents(
        self,
        files: Sequence[tuple[str, int]],
        located: Mapping[str, str],
        known: Mapping[str, tuple[str | None, int | None]],
    ) -> DataFrame:
        """Returns a row per file with its content, its length when read, and what the table knows of it."""
        spark = self._tables.spark
        rows = [
            (image_id, located[image_id], size, image_id not in known, *known.get(image_id, (None, None)))
            for image_id, size in files
        ]
        listed = F.broadcast(spark.createDataFrame(rows, _LISTED).withColumn("key", _key("path")))
        unread = listed.where((F.col("size") > self._max_bytes) | (F.col("size") == 0)).withColumns(
            {"content": F.when(F.col("size") == 0, F.lit(bytearray())), "length": F.col("size")}
        )
        # Spark passes over empty files, too.
        readable = [located[image_id] for image_id, size in files if 0 < size <= self._max_bytes]
        if not readable:
            return unread
        # A glob would be a pattern, and folders such as "country=NL" would be columns.
        reader = spark.read.format("binaryFile").option("__globPaths__", "false")
        found = reader.option("recursiveFileLookup", "true").option("ignoreMissingFiles", "true").load(readable)
        contents = found.select(_key("path").alias("key"), "content", "length")
        return contents.join(listed, "key").select(*unread.columns).unionByName(unread)

    @staticmethod
    def _report(staged: DataFrame, image_ids: Sequence[str]) -> WorkerReport:
        report = WorkerReport()
        # Of a lot whose size the driver has bounded.
        outcomes = staged.select("image_id", "size", "outcome", F.col("content_sha256").isNull().alias("empty"))
        seen = set()
        for row in outcomes.collect():
            seen.add(row["image_id"])
            outcome = row["outcome"]
            if outcome == "refused":
                report.changed_while_read.append(row["image_id"])
                continue
            report.counts[outcome] = report.counts.get(outcome, 0) + 1
            if outcome == "changed":
                report.changed.append(row["image_id"])
            if outcome != "unchanged":
                report.too_large += row["empty"]
                report.bytes_written += 0 if row["empty"] else row["size"]
        report.vanished = [image_id for image_id in image_ids if image_id not in seen]
        return report


def _key(column: str) -> Column:
    return F.regexp_replace(column, _BEFORE_PATH, "")


def _with_outcome(rows: DataFrame) -> DataFrame:
    """Adds checksum and outcome; only rows to write keep their content."""
    digest = F.sha2("content", 256)
    same = digest.eqNullSafe(F.col("old_sha256")) & (F.col("size") == F.col("old_size"))
    outcome = (
        F.when(F.col("length") != F.col("size"), "refused")
        .when(~F.col("is_new") & same, "unchanged")
        .when(F.col("is_new"), "new")
        .otherwise("changed")
    )
    told = rows.withColumn("content_sha256", digest).withColumn("outcome", outcome)
    written = F.col("outcome").isin("new", "changed")
    return told.withColumn("content", F.when(written, F.col("content"))).select(*_STAGED)
