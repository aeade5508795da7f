"""Writes images tables of any size for benchmarks, in which every row has different content."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.benchmarks.table_files import GROUP_BYTES, write_table_files
from faceattr_udf.config import Config
from faceattr_udf.images.crop import crop_face
from faceattr_udf.images.decode import decode_image

_SIDE = 160
_MARGIN = 1.0
_ROWS_PER_GROUP = 500
_ROWS_PER_FILE = 10_000


def portraits(contents: Sequence[bytes], config: Config) -> list[bytes]:
    """Crops the faces of photographs: JPEG, 160 px, with half the face's size added on every side."""
    small = []
    for content, result in zip(contents, FaceAnalyzer.from_config(config).analyze(contents), strict=True):
        if not result.faces:
            continue
        image = decode_image(content, config.images)
        for face in result.faces:
            box = (face.bbox.x_min, face.bbox.y_min, face.bbox.x_max, face.bbox.y_max)
            buffer = io.BytesIO()
            Image.fromarray(crop_face(image, box, _SIDE, _MARGIN)).save(buffer, "JPEG", quality=90)
            small.append(buffer.getvalue())
    return small


def write_images_table(folder: Path, contents: Sequence[bytes], rows: int) -> Path:
    """Writes an images table of Parquet files that repeats images.

    The row's number is appended to the JPEG data, where decoders ignore it. Otherwise equal contents would be inferred
    only once.

    Args:
        folder: Folder of the table; created.
        contents: JPEG files.
        rows: Number of rows.

    Returns:
        The folder.
    """
    step = max(1, min(_ROWS_PER_GROUP, GROUP_BYTES * len(contents) // sum(map(len, contents))))

    def image(number: int) -> tuple[str, bytes]:
        return f"image-{number:09d}", contents[number % len(contents)] + f"#{number}".encode()

    return write_table_files(folder, rows, image, rows_per_file=_ROWS_PER_FILE, rows_per_group=step)


def read_share(folder: Path, share: int, shares: int, batch_rows: int) -> Iterator[list[bytes]]:
    """Yields the contents of every `shares`-th row group of a table, from row group `share` on, in batches."""
    number = 0
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                if number % shares == share:
                    contents: list[Any] = file.read_row_group(group, columns=["content"]).column(0).to_pylist()
                    for start in range(0, len(contents), batch_rows):
                        yield contents[start : start + batch_rows]
                number += 1
