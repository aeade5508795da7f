"""An analyzer that answers at once, and images tables for it: so that a benchmark measures the engine alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faceattr_udf.benchmarks.table_files import GROUP_BYTES, write_table_files
from faceattr_udf.config import Config
from faceattr_udf.results import AgePrediction, BoundingBox, ClassPrediction, Face, ImageResult, ImageStatus, Quality
from faceattr_udf.spark.udf import AnalyzerProvider

_PREFIX: Final = "s3://bucket/catalogue/2026/photographs/"
"""Ids of real catalogues share their first characters."""

_ROWS_PER_FILE: Final = 50_000
_FACES_IN_TEN: Final = 7

_FACE: Final = Face(
    face_index=0,
    bbox=BoundingBox(1.0, 2.0, 30.0, 40.0),
    det_confidence=0.99,
    quality=Quality(28.0, 0.2, 0.5, -3.0, 4.0, 0.25),
    landmarks=None,
    age=AgePrediction(31.0, 25.0, 37.0, "30-39", {"30-39": 1.0}),
    gender=ClassPrediction("female", 0.9, {"female": 0.9, "male": 0.1}),
    emotion=ClassPrediction("neutral", 0.8, {"neutral": 0.8, "happiness": 0.2}),
)
_WITH_FACE: Final = ImageResult(ImageStatus.OK, None, 64, 48, (_FACE,))
_WITHOUT: Final = ImageResult(ImageStatus.NO_FACE, None, 64, 48, ())


@dataclass(frozen=True)
class StubAnalyzer:
    """Finds one face in seven of ten images, without looking at them."""

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        """Returns a result per image; the first byte of its content decides."""
        return [_WITH_FACE if content and content[0] % 10 < _FACES_IN_TEN else _WITHOUT for content in contents]


def _load(config: Config, threads: int, device: str) -> StubAnalyzer:  # noqa: ARG001 - the interface
    return StubAnalyzer()


def _version(config: Config) -> str:  # noqa: ARG001 - the interface
    return "stub-1"


STUB: Final = AnalyzerProvider(load=_load, model_version=_version)


def write_stub_table(
    folder: Path,
    rows: int,
    *,
    content_bytes: int = 100,
    in_order: bool = True,
    every: int = 0,
    version: int = 0,
    rows_per_file: int = _ROWS_PER_FILE,
) -> Path:
    """Writes an images table of Parquet files whose contents mean nothing.

    Args:
        folder: Folder of the table; created.
        rows: Number of rows.
        content_bytes: Length of each content.
        in_order: Whether image_id follows the order of the files; otherwise it has no order, like a hash.
        every: Every how many rows the content is another one in each version; 0 for the same in all versions.
        version: The version of these contents.
        rows_per_file: Rows of a file.

    Returns:
        The folder.
    """
    step = max(1, min(_ROWS_PER_FILE, GROUP_BYTES // (content_bytes + 150)))

    def image(number: int) -> tuple[str, bytes]:
        is_changed = bool(every) and number % every == 0
        seed = f"{number}-{version if is_changed else 0}".encode()
        content = (hashlib.sha256(seed).digest() * (content_bytes // 32 + 1))[:content_bytes]
        return _name(number, in_order), content

    return write_table_files(folder, rows, image, rows_per_file=rows_per_file, rows_per_group=step)


def _name(number: int, in_order: bool) -> str:
    return _PREFIX + (f"{number:012d}" if in_order else hashlib.sha256(str(number).encode()).hexdigest()[:12])
