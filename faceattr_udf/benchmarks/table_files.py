"""Writes images tables of Parquet files, row by row, as `ingest` writes them: every row group is small."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_BYTES: Final = 16 * 2**20
"""Size of a row group: engines and processes share them out."""

_FIELDS: Final[dict[str, Any]] = {"image_id": pa.string(), "content": pa.binary(), "content_sha256": pa.string()}
_SCHEMA: Final = pa.schema(_FIELDS)


def write_table_files(
    folder: Path, rows: int, image: Callable[[int], tuple[str, bytes]], *, rows_per_file: int, rows_per_group: int
) -> Path:
    """Writes an images table.

    Args:
        folder: Folder of the table; created.
        rows: Number of rows.
        image: Returns the image_id and the content of a row by its number.
        rows_per_file: Rows of a file.
        rows_per_group: Rows of a row group.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    for first in range(0, rows, rows_per_file):
        last = min(first + rows_per_file, rows)
        with pq.ParquetWriter(folder / f"part-{first:09d}.parquet", _SCHEMA, compression="none") as writer:
            for start in range(first, last, rows_per_group):
                images = [image(number) for number in range(start, min(start + rows_per_group, last))]
                columns: dict[str, list[Any]] = {
                    "image_id": [image_id for image_id, _ in images],
                    "content": [content for _, content in images],
                    "content_sha256": [hashlib.sha256(content).hexdigest() for _, content in images],
                }
                writer.write_table(pa.table(columns, schema=_SCHEMA))
    return folder
