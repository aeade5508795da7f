"""Loads labeled faces: Parquet files of face images become arrays of crops, framed as in production, and labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from faceattr_udf.arrays import BoolArray, Float32Array, Int64Array, UInt8Array
from faceattr_udf.config import DetectorConfig, ImagesConfig
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.errors import ImageError, SchemaError, TableNotFoundError
from faceattr_udf.images.crop import crop_face
from faceattr_udf.images.decode import decode_image, to_grayscale
from faceattr_udf.labels import CLASSES

COLUMNS = ("image_id", "image", "source", "age", "age_min", "age_max", "gender", "ethnicity", "emotion")
OPTIONAL_COLUMN = "identity"
UNLABELED = -1
FOUND, NOT_FOUND, UNREADABLE = 1, 0, -1
"""State of an image: the cascade found a face, it found none, or the image cannot be decoded."""

_IMAGES_PER_TASK = 64


@dataclass(frozen=True, eq=False)
class LabeledFaces:
    """Faces and labels as parallel arrays; `UNLABELED` (-1) marks labels that a source does not have.

    Attributes:
        crops: uint8 (n, size, size, 3) RGB, memory-mapped if they are cached.
        detected: bool (n,), whether the cascade found a face; otherwise the crop is the whole image.
        source: str (n,).
        age_range: float32 (n, 2), lowest and highest true age in years; equal where the age is exact; -1 unlabeled.
        labels: Attribute -> int64 (n,), index into `CLASSES`.
        identity: int64 (n,), equal for faces of one person of one source; -1 where the person is not known.
        unknown: Attribute -> bool (n,), whether the model has no class for the label.
        unknown_labels: Attribute -> such labels with their counts.
        unreadable: image_id of the rows whose image cannot be decoded; they are not among the faces.
    """

    crops: UInt8Array
    detected: BoolArray
    source: npt.NDArray[np.str_]
    age_range: Float32Array
    labels: dict[str, Int64Array]
    identity: Int64Array
    unknown: dict[str, BoolArray]
    unknown_labels: dict[str, dict[str, int]]
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Returns the number of faces."""
        return len(self.crops)

    def labeled(self, attribute: str) -> BoolArray:
        """Returns which faces have a label of an attribute or of "age", bool (n,)."""
        values = self.age_range[:, 0] if attribute == "age" else self.labels[attribute]
        return np.asarray(values != UNLABELED)

    def has_exact_age(self) -> BoolArray:
        """Returns which faces have an exact age, not just a range, bool (n,)."""
        low, high = self.age_range.T
        return np.asarray((low == high) & self.labeled("age"))

    def take(self, index: Int64Array) -> "LabeledFaces":
        """Returns the faces at these indices, in this order."""
        return replace(
            self,
            crops=np.asarray(self.crops[index]),
            detected=self.detected[index],
            source=self.source[index],
            age_range=self.age_range[index],
            labels={name: values[index] for name, values in self.labels.items()},
            identity=self.identity[index],
            unknown={name: values[index] for name, values in self.unknown.items()},
        )


def read_table(path: Path) -> pa.Table:
    """Reads a Parquet file of labeled faces and checks its columns.

    Raises:
        TableNotFoundError: The file does not exist.
        SchemaError: A column is missing.
    """
    if not path.exists():
        msg = f"labeled faces {path} not found; pass a Parquet file with the columns {', '.join(COLUMNS)}"
        raise TableNotFoundError(msg)
    schema = pq.read_schema(path)
    missing = [column for column in COLUMNS if column not in schema.names]
    if missing:
        msg = f"labeled faces {path} lack the columns {', '.join(missing)}; all of {', '.join(COLUMNS)} are required"
        raise SchemaError(msg)
    return pq.read_table(path, columns=[*COLUMNS, *({OPTIONAL_COLUMN} & set(schema.names))])


class FaceCropper:
    """Crops the largest face of an image exactly as the analyzer does: the cascade's box plus a margin."""

    def __init__(self, size: int, margin: float, detector: DetectorConfig, *, grayscale: bool = False) -> None:
        """Loads the cascade.

        Args:
            size: Side of the crops, pixels.
            margin: See `crop_face`.
            detector: Settings of the cascade; `largest_only` is always on.
            grayscale: Whether to convert images to grayscale first.
        """
        self._detector = Detector(detector.model_copy(update={"largest_only": True}))
        self._size, self._margin, self._grayscale = size, margin, grayscale

    def crop(self, contents: Sequence[bytes | None]) -> tuple[UInt8Array, npt.NDArray[np.int8]]:
        """Crops one face per image.

        Args:
            contents: Encoded images.

        Returns:
            The crops, uint8 (n, size, size, 3), and the states of the images, int8 (n,). The crop is the whole image
            where the state is `NOT_FOUND`, and black where it is `UNREADABLE`.
        """
        crops = np.zeros((len(contents), self._size, self._size, 3), dtype=np.uint8)
        states = np.full(len(contents), UNREADABLE, dtype=np.int8)
        images: dict[int, UInt8Array] = {}
        for index, content in enumerate(contents):
            try:
                image = decode_image(content, ImagesConfig())
            except ImageError:
                continue
            images[index] = to_grayscale(image) if self._grayscale else image
        for (index, image), faces in zip(images.items(), self._detector.detect(list(images.values())), strict=True):
            states[index] = FOUND if len(faces) else NOT_FOUND
            height, width = image.shape[:2]
            whole = np.array([0.0, 0.0, width, height])
            crops[index] = crop_face(image, faces.boxes[0] if len(faces) else whole, self._size, self._margin)
        return crops, states


_cropper: FaceCropper | None = None


def _start_worker(size: int, margin: float, detector: DetectorConfig, grayscale: bool) -> None:
    global _cropper  # noqa: PLW0603 - a pool's worker has no other place for what it loads once
    _cropper = FaceCropper(size, margin, detector, grayscale=grayscale)


def _crop_in_worker(contents: list[bytes | None]) -> tuple[UInt8Array, npt.NDArray[np.int8]]:
    if _cropper is None:
        msg = "the pool's initializer did not run"
        raise RuntimeError(msg)
    return _cropper.crop(contents)


def load_faces(
    table: pa.Table,
    size: int,
    margin: float,
    *,
    grayscale: bool = False,
    cache: Path | None = None,
    detector: DetectorConfig | None = None,
    workers: int = 2,
) -> LabeledFaces:
    """Crops every face of a table in worker processes and encodes its labels.

    Args:
        table: The result of `read_table`.
        size: Side of the crops, pixels.
        margin: See `crop_face`.
        grayscale: Whether to convert images to grayscale before detection.
        cache: File stem of the cached crops; reused if the files exist.
        detector: Settings of the cascade; None means the defaults.
        workers: Number of processes.

    Returns:
        The faces in the table's order, without the rows whose image cannot be decoded (see `unreadable`).
    """
    worker_settings = (size, margin, detector or DetectorConfig(), grayscale)
    states_file = cache.with_name(f"{cache.name}.states.npy") if cache else None
    crops_file = cache.with_name(f"{cache.name}.npy") if cache else None
    if crops_file and states_file and states_file.exists():
        crops, states = np.load(crops_file, mmap_mode="r"), np.load(states_file)
    else:
        crops = _empty_crops((len(table), size, size, 3), crops_file)
        states = np.full(len(table), UNREADABLE, dtype=np.int8)
        start = 0
        with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=worker_settings) as pool:
            batches = _batches(_column(table, "image"), _IMAGES_PER_TASK)
            for some_crops, some_states in pool.map(_crop_in_worker, batches):
                stop = start + len(some_crops)
                crops[start:stop], states[start:stop] = some_crops, some_states
                start = stop
        if states_file:
            np.save(states_file, states)  # written last: a killed run leaves no cache that looks complete
    readable = states != UNREADABLE
    unreadable = tuple(np.asarray(_column(table, "image_id"), dtype=object)[~readable])
    if unreadable:
        table, crops, states = table.filter(pa.array(readable)), crops[readable], states[readable]
    return _encode(table, crops, states == FOUND, unreadable)


def _empty_crops(shape: tuple[int, ...], file: Path | None) -> UInt8Array:
    if file is None:
        return np.zeros(shape, dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)


def _batches(images: list[bytes | None], rows: int) -> Iterator[list[bytes | None]]:
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def _column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist()


def _encode(table: pa.Table, crops: UInt8Array, detected: BoolArray, unreadable: tuple[str, ...]) -> LabeledFaces:
    ages = []
    for age, low, high in zip(*(_column(table, name) for name in ("age", "age_min", "age_max")), strict=True):
        if low is not None and high is not None:
            ages.append((low, high))
        else:
            ages.append((age, age) if age is not None else (UNLABELED, UNLABELED))
    labels, unknown, unknown_labels = {}, {}, {}
    for attribute, classes in CLASSES.items():
        index = {label: i for i, label in enumerate(classes)}
        values = _column(table, attribute)
        labels[attribute] = np.array([index.get(value, UNLABELED) for value in values], dtype=np.int64)
        unknown[attribute] = np.array([value is not None and value not in index for value in values], dtype=bool)
        unknown_labels[attribute] = dict(Counter(value for value in values if value is not None and value not in index))
    return LabeledFaces(
        crops=crops,
        detected=detected,
        source=np.asarray(_column(table, "source"), dtype=np.str_),
        age_range=np.array(ages, dtype=np.float32).reshape(-1, 2),
        labels=labels,
        identity=_identities(table),
        unknown=unknown,
        unknown_labels=unknown_labels,
        unreadable=unreadable,
    )


def _identities(table: pa.Table) -> Int64Array:
    if OPTIONAL_COLUMN not in table.column_names:
        return np.full(len(table), UNLABELED, dtype=np.int64)
    people: dict[tuple[str, str], int] = {}
    pairs = zip(_column(table, "source"), _column(table, OPTIONAL_COLUMN), strict=True)
    return np.array(
        [UNLABELED if name is None else people.setdefault((source, name), len(people)) for source, name in pairs],
        dtype=np.int64,
    )
