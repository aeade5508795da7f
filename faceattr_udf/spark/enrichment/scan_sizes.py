"""How many images the embedded engine may read at once: its batches are counted in rows, which may be large."""

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from faceattr_udf.config import EnrichConfig
from faceattr_udf.spark.locations import file_system


def rows_per_scan(content_bytes: int, options: EnrichConfig) -> int | None:
    """Returns the most images that one scan should read; None where the engine's own batches are small enough.

    A scan holds up to `enrich.max_batch_rows` images several times over, in one copy per operator.

    Args:
        content_bytes: Mean size of the table's largest images, as from `mean_content_bytes`.
        options: The batch sizes.

    >>> rows_per_scan(300_000, EnrichConfig()), rows_per_scan(10_000_000, EnrichConfig())
    (None, 6)
    """
    if content_bytes * options.max_batch_rows <= 4 * options.max_batch_bytes:
        return None
    return max(1, options.max_batch_bytes // content_bytes)


def mean_content_bytes(location: str, column: str) -> int:
    """Returns the mean size of an image in the row group with the largest ones, from the footers of a table's files.

    Args:
        location: A Parquet file, or the folder of a Parquet or Delta table; the files of earlier versions count too.
        column: The column of image bytes.

    Returns:
        Bytes; 0 where there is no file that can be read. The engine reports why.
    """
    system, path = file_system(location)
    info = system.get_file_info(path)
    if info.type == fs.FileType.Directory:
        files = system.get_file_info(fs.FileSelector(path, recursive=True))
    else:
        files = [info]
    return max((_mean_bytes(system, file.path, column) for file in files if file.extension == "parquet"), default=0)


def _mean_bytes(system: fs.FileSystem, path: str, column: str) -> int:
    try:
        with system.open_input_file(path) as source:
            footer = pq.read_metadata(source)
    except (pa.ArrowException, OSError):
        return 0
    means = [0]
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        chunks = (group.column(index) for index in range(group.num_columns))
        size = sum(
            chunk.total_uncompressed_size for chunk in chunks if f"{chunk.path_in_schema}.".startswith(f"{column}.")
        )
        means.append(size // max(1, group.num_rows))
    return max(means)
