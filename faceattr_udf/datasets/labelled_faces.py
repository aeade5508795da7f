"""Labelled faces: a Parquet file of loose crops -> arrays of faces cut as in production, with masked labels."""

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

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.config import DetectorConfig, ImagesConfig
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.errors import ImageError, SchemaError, TableNotFoundError
from faceattr_udf.images.crop import cut_face
from faceattr_udf.images.decode import decode_image, to_grey

UInt8Array = npt.NDArray[np.uint8]

COLUMNS = ("image_id", "image", "source", "age", "age_min", "age_max", "gender", "ethnicity", "emotion")
OPTIONAL_COLUMN = "identity"
UNLABELLED = -1
FOUND, NOT_FOUND, UNREADABLE = 1, 0, -1
"""What became of an image: the cascade found a face, it found none, or there is no image."""


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
        unreadable: image_id of rows whose image is none; they are not among the faces.
    """

    crops: UInt8Array
    detected: npt.NDArray[np.bool_]
    source: npt.NDArray[np.str_]
    age_range: npt.NDArray[np.float32]
    labels: dict[str, npt.NDArray[np.int64]]
    identity: npt.NDArray[np.int64]
    unknown: dict[str, npt.NDArray[np.bool_]]
    unknown_labels: dict[str, dict[str, int]]
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many faces."""
        return len(self.crops)

    def labelled(self, attribute: str) -> npt.NDArray[np.bool_]:
        """Which faces have a label of an attribute, or of "age"; bool (n,)."""
        values = self.age_range[:, 0] if attribute == "age" else self.labels[attribute]
        return np.asarray(values != UNLABELLED)

    def exactly_aged(self) -> npt.NDArray[np.bool_]:
        """Which faces have an age and not only a range; bool (n,)."""
        low, high = self.age_range.T
        return np.asarray((low == high) & self.labelled("age"))

    def take(self, index: npt.NDArray[np.int64]) -> "LabelledFaces":
        """The faces with these places, in this order."""
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

    def __init__(self, size: int, margin: float, detector: DetectorConfig, *, grayscale: bool = False) -> None:
        """Loads the cascade.

        Args:
            size: Side of the cut, pixels.
            margin: As `cut_face` takes it.
            detector: Settings; the largest face alone is ever used.
            grayscale: Whether images are turned grey first.
        """
        self._detector = Detector(detector.model_copy(update={"largest_only": True}))
        self._size, self._margin, self._grayscale = size, margin, grayscale

    def cut(self, contents: Sequence[bytes | None]) -> tuple[UInt8Array, npt.NDArray[np.int8]]:
        """Cuts one face per image.

        Args:
            contents: Encoded images.

        Returns:
            uint8 (n, size, size, 3) and int8 (n,): `FOUND`, `NOT_FOUND` where the whole image was cut, or `UNREADABLE`
            where there is no image, and the cut is black.
        """
        crops = np.zeros((len(contents), self._size, self._size, 3), dtype=np.uint8)
        states = np.full(len(contents), UNREADABLE, dtype=np.int8)
        images: dict[int, UInt8Array] = {}
        for index, content in enumerate(contents):
            try:
                image = decode_image(content, ImagesConfig())
            except ImageError:
                continue
            images[index] = to_grey(image) if self._grayscale else image
        for (index, image), faces in zip(images.items(), self._detector.detect(list(images.values())), strict=True):
            states[index] = FOUND if len(faces) else NOT_FOUND
            height, width = image.shape[:2]
            whole = np.array([0.0, 0.0, width, height])
            crops[index] = cut_face(image, faces.boxes[0] if len(faces) else whole, self._size, self._margin)
        return crops, states


_cutter: FaceCutter | None = None


def _start_worker(size: int, margin: float, detector: DetectorConfig, grayscale: bool) -> None:
    global _cutter  # noqa: PLW0603 - a pool's worker has no other place for what it loads once
    _cutter = FaceCutter(size, margin, detector, grayscale=grayscale)


def _cut_in_worker(contents: list[bytes | None]) -> tuple[UInt8Array, npt.NDArray[np.int8]]:
    if _cutter is None:
        msg = "the pool's initializer did not run"
        raise RuntimeError(msg)
    return _cutter.cut(contents)


def load_faces(
    table: pa.Table,
    size: int,
    margin: float,
    *,
    grayscale: bool = False,
    cache: Path | None = None,
    detector: DetectorConfig | None = None,
    workers: int = 2,
) -> LabelledFaces:
    """Cuts every face of a table, in worker processes, and encodes its labels.

    Args:
        table: Of `read_table`.
        size: Side of a cut, pixels.
        margin: As `cut_face` takes it.
        grayscale: Whether images are turned grey before the cascade looks at them.
        cache: File stem for the cuts; reused when it is there.
        detector: Settings of the cascade; None means the defaults.
        workers: Processes.

    Returns:
        The faces in the table's order, without the rows whose image cannot be read, which are named.
    """
    count = len(table)
    crops_file = cache.with_name(f"{cache.name}.npy") if cache else None
    states_file = cache.with_name(f"{cache.name}.states.npy") if cache else None
    if crops_file and states_file and states_file.exists():
        crops, states = np.load(crops_file, mmap_mode="r"), np.load(states_file)
    else:
        shape = (count, size, size, 3)
        if crops_file:
            crops_file.parent.mkdir(parents=True, exist_ok=True)
            crops = np.lib.format.open_memmap(crops_file, mode="w+", dtype=np.uint8, shape=shape)
        else:
            crops = np.zeros(shape, dtype=np.uint8)
        states = np.full(count, UNREADABLE, dtype=np.int8)
        start = 0
        with ProcessPoolExecutor(
            workers, initializer=_start_worker, initargs=(size, margin, detector or DetectorConfig(), grayscale)
        ) as pool:
            for cuts, kinds in pool.map(_cut_in_worker, _batches(_column(table, "image"), 64)):
                crops[start : start + len(cuts)], states[start : start + len(cuts)] = cuts, kinds
                start += len(cuts)
        if states_file:
            np.save(states_file, states)  # written last: a killed run leaves no cache that looks whole
    readable = states != UNREADABLE
    unreadable = tuple(np.asarray(_column(table, "image_id"), dtype=object)[~readable])
    if unreadable:
        table, crops, states = table.filter(pa.array(readable)), crops[readable], states[readable]
    return _encode(table, crops, states == FOUND, unreadable)


def _batches(images: list[bytes | None], rows: int) -> Iterator[list[bytes | None]]:
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def _column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist()


def _encode(
    table: pa.Table, crops: UInt8Array, found: npt.NDArray[np.bool_], unreadable: tuple[str, ...]
) -> LabelledFaces:
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
        unreadable=unreadable,
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
