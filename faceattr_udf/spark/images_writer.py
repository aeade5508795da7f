"""Writes the rows of an images table, as a folder of Parquet files or as a Delta table."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from pyspark.sql import DataFrame

from faceattr_udf.spark.locations import TableRef, file_system, join
from faceattr_udf.spark.schemas import IMAGES, ROW_GROUP_BYTES, arrow_type
from faceattr_udf.spark.tables import Tables

_REPLACE_ROWS: Final = 200
"""Rows replaced by one commit: the embedded engine's time for a condition grows with the square of its keys."""

_SCHEMA: Final = pa.schema([pa.field(column.name, arrow_type(column.dataType)) for column in IMAGES])


@dataclass(frozen=True)
class Change:
    """A row to write.

    Attributes:
        row: The row.
        is_new: True if the table has no row with this image_id yet.
    """

    row: dict[str, Any]
    is_new: bool


def content_bytes(row: Mapping[str, Any]) -> int:
    """Returns the number of image bytes in a row."""
    return len(row["content"] or b"")


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
            buffered_bytes += content_bytes(row)
            if buffered_bytes >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
                group, buffered_bytes = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
    system.move(unfinished, name)


class ParquetTable:
    """A folder of Parquet files. A changed row is replaced in its file, so no image_id is ever there twice."""

    def __init__(self, location: str) -> None:
        self._location = location

    def remove_leftovers(self) -> None:
        """Removes the unfinished files of a killed ingestion."""
        system, folder = file_system(self._location)
        for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if info.base_name.startswith("_") and info.extension == "parquet":
                system.delete_file(info.path)

    def write(self, changes: Sequence[Change]) -> None:
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


class DeltaTable:
    """A Delta table. Rows reach it through staged Parquet files, so no message from client to server holds images."""

    def __init__(self, tables: Tables, ref: TableRef, location: str) -> None:
        """Binds a table.

        Args:
            tables: Table operations.
            ref: The table; it need not exist.
            location: Where `staging` lies.
        """
        self._tables = tables
        self._ref = ref
        self.staging = join(location, "_ingest")

    def remove_leftovers(self) -> None:
        """Removes the staged files of this or of a killed ingestion."""
        system, name = file_system(self.staging)
        if system.get_file_info(name).type == fs.FileType.Directory:
            system.delete_dir(name)

    def write(self, changes: Sequence[Change]) -> None:
        """Writes rows; without any, makes an empty table."""
        changed = {change.row["image_id"]: change.row for change in changes if not change.is_new}
        new = [change.row for change in changes if change.is_new]
        self.replace(list(changed), lambda some: self._staged([changed[image_id] for image_id in some]))
        self.append(self._staged(new) if new else None)
        self.remove_leftovers()

    def append(self, rows: DataFrame | None) -> None:
        """Adds rows; None only makes an empty table where there is none."""
        self._tables.ensure(self._ref, IMAGES)
        if rows is not None:
            self._tables.append(self._ref, rows)

    def replace(self, image_ids: Sequence[str], rows: Callable[[Sequence[str]], DataFrame]) -> None:
        """Replaces rows of the table, some at a time.

        Args:
            image_ids: The rows to replace.
            rows: Returns the new rows with some of these image_ids.
        """
        for first in range(0, len(image_ids), _REPLACE_ROWS):
            # In one commit, so that a concurrent reader finds either the old image or the new one.
            some = image_ids[first : first + _REPLACE_ROWS]
            self._tables.replace(self._ref, rows(some), "image_id", some)

    def _staged(self, rows: list[dict[str, Any]]) -> DataFrame:
        file = join(self.staging, f"{uuid.uuid4().hex}.parquet")
        _write_file(file, rows)
        return self._tables.spark.read.schema(IMAGES).option("__globPaths__", "false").parquet(file)
