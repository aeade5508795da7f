"""Labelled faces: a Parquet file of loose crops -> arrays of faces cut as in production, with masked labels."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.config import DetectorConfig, ImagesConfig
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.errors import SchemaError, TableNotFoundError
from faceattr_udf.images.crop import cut_face
from faceattr_udf.images.decode import decode_image

UInt8Array = npt.NDArray[np.uint8]

COLUMNS = ("image_id", "image", "source", "age", "age_min", "age_max", "gender", "ethnicity", "emotion")
OPTIONAL_COLUMN = "identity"
UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class LabelledFaces:
    """Faces and labels as parallel arrays; `UNLABELLED` (-1) marks what a source does not label.

    Attributes:
        crops: uint8 (n, size, size, 3) RGB, perhaps memory-mapped.
        detected: bool (n,), whether the cascade found a face; else the whole image was taken for it.
        source: str (n,).
        age_range: float32 (n, 2), lowest and highest true age in years; equal where the age is exact; -1 unlabelled.
        labels: Attribute -> int64 (n,), index into `CLASSES`.
        identity: int64 (n,), equal for faces of one person of one source, -1 where the person is not known.
        unknown: Attribute -> bool (n,), whether the label is one the model has no class for.
        unknown_labels: Attribute -> such labels with their counts.
    """

    crops: UInt8Array
    detected: npt.NDArray[np.bool_]
    source: npt.NDArray[np.str_]
    age_range: npt.NDArray[np.float32]
    labels: dict[str, npt.NDArray[np.int64]]
    identity: npt.NDArray[np.int64]
    unknown: dict[str, npt.NDArray[np.bool_]]
    unknown_labels: dict[str, dict[str, int]]

    def __len__(self) -> int:
        """How many faces."""
        return len(self.crops)


def read_table(path: Path) -> pa.Table:
    """Reads a labelled-faces file and checks its columns.

    Raises:
        TableNotFoundError: There is no such file.
        SchemaError: A column is missing.
    """
    if not path.exists():
        msg = f"labelled faces {path} not found; name a Parquet file with the columns {', '.join(COLUMNS)}"
        raise TableNotFoundError(msg)
    schema = pq.read_schema(path)
    missing = [column for column in COLUMNS if column not in schema.names]
    if missing:
        msg = f"labelled faces {path} lack the column {', '.join(missing)}; every one of {', '.join(COLUMNS)} is needed"
        raise SchemaError(msg)
    return pq.read_table(path, columns=[*COLUMNS, *({OPTIONAL_COLUMN} & set(schema.names))])


class FaceCutter:
    """Cuts the largest face of an image exactly as the analyzer does: the cascade's box plus margin."""

    def __init__(self, size: int, margin: float, detector: DetectorConfig) -> None:
        """Loads the cascade.

        Args:
            size: Side of the cut, pixels.
            margin: As `cut_face` takes it.
            detector: Settings; the largest face alone is ever used.
        """
        self._detector = Detector(detector.model_copy(update={"largest_only": True}))
        self._size, self._margin = size, margin

    def cut(self, contents: list[bytes]) -> tuple[UInt8Array, npt.NDArray[np.bool_]]:
        """Cuts one face per image.

        Args:
            contents: Encoded images, all decodable.

        Returns:
            uint8 (n, size, size, 3) and, per image, whether a face was found.
        """
        images = [decode_image(content, ImagesConfig()) for content in contents]
        crops = np.zeros((len(images), self._size, self._size, 3), dtype=np.uint8)
        found = np.zeros(len(images), dtype=bool)
        for index, (image, faces) in enumerate(zip(images, self._detector.detect(images), strict=True)):
            found[index] = len(faces) > 0
            height, width = image.shape[:2]
            whole = np.array([0.0, 0.0, width, height])
            crops[index] = cut_face(image, faces.boxes[0] if found[index] else whole, self._size, self._margin)
        return crops, found


_cutter: FaceCutter | None = None


def _start_worker(size: int, margin: float, detector: DetectorConfig) -> None:
    global _cutter  # noqa: PLW0603 - a pool's worker has no other place for what it loads once
    _cutter = FaceCutter(size, margin, detector)


def _cut_in_worker(contents: list[bytes]) -> tuple[UInt8Array, npt.NDArray[np.bool_]]:
    if _cutter is None:
        msg = "the pool's initializer did not run"
        raise RuntimeError(msg)
    return _cutter.cut(contents)


def load_faces(
    table: pa.Table,
    size: int,
    margin: float,
    *,
    cache: Path | None = None,
    detector: DetectorConfig | None = None,
    workers: int = 2,
) -> LabelledFaces:
    """Cuts every face of a table, in worker processes, and encodes its labels.

    Args:
        table: Of `read_table`.
        size: Side of a cut, pixels.
        margin: As `cut_face` takes it.
        cache: File stem for the cuts; reused when it is there.
        detector: Settings of the cascade; None means the defaults.
        workers: Processes.

    Returns:
        The faces in the table's order.
    """
    count = len(table)
    crops_file = cache.with_suffix(".npy") if cache else None
    found_file = cache.with_suffix(".found.npy") if cache else None
    if crops_file and found_file and found_file.exists():
        crops, found = np.load(crops_file, mmap_mode="r"), np.load(found_file)
    else:
        shape = (count, size, size, 3)
        if crops_file:
            crops_file.parent.mkdir(parents=True, exist_ok=True)
            crops = np.lib.format.open_memmap(crops_file, mode="w+", dtype=np.uint8, shape=shape)
        else:
            crops = np.zeros(shape, dtype=np.uint8)
        found = np.zeros(count, dtype=bool)
        start = 0
        with ProcessPoolExecutor(
            workers, initializer=_start_worker, initargs=(size, margin, detector or DetectorConfig())
        ) as pool:
            for cuts, hits in pool.map(_cut_in_worker, _batches(_column(table, "image"), 64)):
                crops[start : start + len(cuts)], found[start : start + len(cuts)] = cuts, hits
                start += len(cuts)
        if found_file:
            np.save(found_file, found)  # written last: a killed run leaves no cache that looks whole
    return _encode(table, crops, found)


def _batches(images: list[bytes], rows: int) -> Iterator[list[bytes]]:
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def _column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist()


def _encode(table: pa.Table, crops: UInt8Array, found: npt.NDArray[np.bool_]) -> LabelledFaces:
    ages = []
    for age, low, high in zip(*(_column(table, name) for name in ("age", "age_min", "age_max")), strict=True):
        if low is not None and high is not None:
            ages.append((low, high))
        else:
            ages.append((age, age) if age is not None else (UNLABELLED, UNLABELLED))
    labels, unknown, unknown_labels = {}, {}, {}
    for attribute, classes in CLASSES.items():
        index = {label: i for i, label in enumerate(classes)}
        values = _column(table, attribute)
        labels[attribute] = np.array([index.get(value, UNLABELLED) for value in values], dtype=np.int64)
        unknown[attribute] = np.array([value is not None and value not in index for value in values], dtype=bool)
        unknown_labels[attribute] = dict(Counter(value for value in values if value is not None and value not in index))
    return LabelledFaces(
        crops=crops,
        detected=found,
        source=np.asarray(_column(table, "source"), dtype=np.str_),
        age_range=np.array(ages, dtype=np.float32).reshape(-1, 2),
        labels=labels,
        identity=_identities(table),
        unknown=unknown,
        unknown_labels=unknown_labels,
    )


def _identities(table: pa.Table) -> npt.NDArray[np.int64]:
    if OPTIONAL_COLUMN not in table.column_names:
        return np.full(len(table), UNLABELLED, dtype=np.int64)
    people: dict[tuple[str, str], int] = {}
    pairs = zip(_column(table, "source"), _column(table, OPTIONAL_COLUMN), strict=True)
    return np.array(
        [UNLABELLED if name is None else people.setdefault((source, name), len(people)) for source, name in pairs],
        dtype=np.int64,
    )
