"""Parquet files whose contents cannot be read, for tests of what is not read."""

from pathlib import Path

import pyarrow.parquet as pq


def spoil(file: Path) -> None:
    """Overwrites the bytes of the column of contents, so that reading any of it fails."""
    metadata = pq.read_metadata(file)
    data = bytearray(file.read_bytes())
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            if column.path_in_schema == "content":
                start = min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)
                data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(data)
