"""Loads labeled faces: Parquet files of face images become arrays of crops, framed as in production, and labels."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from faceattr_udf.arrays import BoolArray, Float32Array, Int64Array, UInt8Array
from faceattr_udf.config import DetectorConfig, ImagesConfig
from faceattr_udf.detection.mtcnn import Detector, upright
from faceattr_udf.errors import ImageError, SchemaError, TableNotFoundError
from faceattr_udf.images.crop import crop_face
from faceattr_udf.images.decode import decode_image, to_grayscale
from faceattr_udf.labels import CLASSES, LABEL_CLASSES, LABELS, OTHERS
from faceattr_udf.sanitize import first_line

COLUMNS = ("image_id", "image", "source", "age", "age_min", "age_max", "gender", "ethnicity", "emotion")
OPTIONAL_COLUMNS = ("identity", "race7")
UNLABELED = -1
FOUND, NOT_FOUND, UNREADABLE = 1, 0, -1
"""State of an image: the cascade found a face, it found none, or the image cannot be decoded."""

_RACE7_CLASSES = {"Middle Eastern": "middle_eastern", "Latino_Hispanic": "latino_hispanic"}
"""FairFace's races that other data sets join as `others` -> our classes."""

_IMAGES_PER_TASK = 64


@dataclass(frozen=True, eq=False)
class LabeledFaces:
    """Faces and labels as parallel arrays; `UNLABELED` (-1) marks labels that a source does not have.

    Attributes:
        image_id: str (n,).
        crops: uint8 (n, size, size, 3) RGB, memory-mapped if they are cached.
        detected: bool (n,), whether the cascade found a face; otherwise the crop is the whole image.
        source: str (n,).
        age_range: float32 (n, 2), lowest and highest true age in years; equal where the age is exact; -1 unlabeled.
        labels: Attribute -> int64 (n,), index into `labels.LABELS`: a class, or a coarse label for several classes.
        identity: int64 (n,), equal for faces of one person of one source; -1 where the person is not known.
        unknown: Attribute -> bool (n,), whether the label is none of `labels.LABELS`.
        unknown_labels: Attribute -> such labels with their counts.
        face_px: float32 (n,), shorter side of the detector's box as in `results.Quality`, pixels; NaN where the cascade
            found no face.
        unreadable: image_id of the rows whose image cannot be decoded; they are not among the faces.
    """

    image_id: npt.NDArray[np.str_]
    crops: UInt8Array
    detected: BoolArray
    source: npt.NDArray[np.str_]
    age_range: Float32Array
    labels: dict[str, Int64Array]
    identity: Int64Array
    unknown: dict[str, BoolArray]
    unknown_labels: dict[str, dict[str, int]]
    face_px: Float32Array
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
            image_id=self.image_id[index],
            crops=np.asarray(self.crops[index]),
            detected=self.detected[index],
            source=self.source[index],
            age_range=self.age_range[index],
            labels={name: values[index] for name, values in self.labels.items()},
            identity=self.identity[index],
            unknown={name: values[index] for name, values in self.unknown.items()},
            face_px=self.face_px[index],
        )


def label_matrix(attribute: str) -> BoolArray:
    """Returns which classes each label stands for, bool (labels, classes), in the order of `labels.LABELS`."""
    matrix = np.zeros((len(LABELS[attribute]), len(CLASSES[attribute])), dtype=bool)
    for label, classes in enumerate(LABEL_CLASSES[attribute]):
        matrix[label, list(classes)] = True
    return matrix


def read_table(path: Path) -> pa.Table:
    """Reads a Parquet file of labeled faces and checks its columns.

    Returns:
        The columns that are used; texts are strings, whatever their encoding in the file.

    Raises:
        TableNotFoundError: The file does not exist.
        SchemaError: The file cannot be read as Parquet, or a column is missing or has another type.
    """
    wanted = f"pass a Parquet file with the columns {', '.join(COLUMNS)}"
    if not path.exists():
        msg = f"labeled faces {path} not found; {wanted}"
        raise TableNotFoundError(msg)
    if path.is_dir():
        msg = f"labeled faces {path} is a folder; {wanted}"
        raise SchemaError(msg)
    try:
        schema = pq.read_schema(path)
        _check_types(path, schema)
        table = pq.read_table(path, columns=[*COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in schema.names)])
    except (pa.ArrowException, OSError, ValueError) as error:
        msg = f"labeled faces {path} cannot be read as Parquet ({first_line(error)}); {wanted}"
        raise SchemaError(msg) from error
    texts = (name for name in table.column_names if name in _TEXTS and table[name].type != pa.string())
    for name in texts:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    return table


def _check_types(path: Path, schema: pa.Schema) -> None:
    missing = [column for column in COLUMNS if column not in schema.names]
    if missing:
        msg = f"labeled faces {path} lack the columns {', '.join(missing)}; all of {', '.join(COLUMNS)} are required"
        raise SchemaError(msg)
    wrong = [
        f"{field.name} is {field.type} instead of {kind}"
        for field in schema
        for kind, names, fits in _KINDS
        if field.name in names and not (fits(field.type) or pa.types.is_null(field.type))
    ]
    wrong += [f"{name} is there more than once" for name in COLUMNS if schema.names.count(name) > 1]
    if wrong:
        msg = f"labeled faces {path} have unusable columns ({'; '.join(wrong)}); write them with these types"
        raise SchemaError(msg)


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return _is_text(type_.value_type)
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_fixed_size_binary(type_)
        or pa.types.is_binary_view(type_)
    )


_TEXTS: Final = ("image_id", "source", "gender", "ethnicity", "emotion", "race7")
_KINDS: Final[tuple[tuple[str, tuple[str, ...], Callable[[pa.DataType], bool]], ...]] = (
    ("text", _TEXTS, _is_text),
    ("a number", ("age", "age_min", "age_max"), _is_number),
    ("binary", ("image",), _is_bytes),
)
"""Kind of type, the columns that have it, and its check; a column of nulls may have any type."""


def read_tables(paths: Sequence[Path]) -> pa.Table:
    """Reads Parquet files of labeled faces, one below the other.

    Raises:
        TableNotFoundError: A file does not exist.
        SchemaError: A column is missing, or has a type in one file that does not fit that of another.
    """
    tables = [read_table(path) for path in paths]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        msg = f"labeled faces {', '.join(map(str, paths))} cannot be joined: {error}; write equal types"
        raise SchemaError(msg) from error


class FaceCropper:
    """Crops the largest face of an image exactly as the analyzer does: the cascade's box plus a margin."""

    def __init__(
        self,
        size: int,
        margin: float,
        detector: DetectorConfig,
        *,
        grayscale: bool = False,
        face_px: int | None = None,
    ) -> None:
        """Loads the cascade.

        Args:
            size: Side of the crops, pixels.
            margin: See `crop_face`.
            detector: Settings of the cascade; `largest_only` is always on.
            grayscale: Whether to convert images to grayscale first.
            face_px: Width to which faces are shrunk with their images before all else, pixels; None shrinks none.
        """
        self._detector = Detector(detector.model_copy(update={"largest_only": True}))
        self._size, self._margin, self._grayscale, self._face_px = size, margin, grayscale, face_px

    def crop(self, contents: Sequence[bytes | None]) -> tuple[UInt8Array, npt.NDArray[np.int8], Float32Array]:
        """Crops one face per image.

        Args:
            contents: Encoded images.

        Returns:
            The crops, uint8 (n, size, size, 3), the states of the images, int8 (n,), and the shorter sides of the
            faces' boxes, float32 (n,), pixels, NaN without a face. The crop is the whole image where the state is
            `NOT_FOUND`, and black where it is `UNREADABLE`.
        """
        crops = np.zeros((len(contents), self._size, self._size, 3), dtype=np.uint8)
        states = np.full(len(contents), UNREADABLE, dtype=np.int8)
        sides = np.full(len(contents), np.nan, dtype=np.float32)
        images: dict[int, UInt8Array] = {}
        for index, content in enumerate(contents):
            try:
                image = decode_image(content, ImagesConfig())
            except ImageError:
                continue
            images[index] = to_grayscale(image) if self._grayscale else image
        if self._face_px is not None:
            images = dict(zip(images, self._shrink(list(images.values()), self._face_px), strict=True))
        for (index, image), faces in zip(images.items(), self._detector.detect(list(images.values())), strict=True):
            states[index] = FOUND if len(faces) else NOT_FOUND
            turned, boxes = upright(image, faces)
            height, width = image.shape[:2]
            whole = np.array([0.0, 0.0, width, height])
            crops[index] = crop_face(turned, boxes[0] if len(faces) else whole, self._size, self._margin)
            if len(faces):
                sides[index] = max(0.0, float((boxes[0, 2:4] - boxes[0, :2]).min()))
        return crops, states, sides

    def _shrink(self, images: list[UInt8Array], face_px: int) -> list[UInt8Array]:
        """Shrinks images until their largest face is `face_px` wide; those with smaller faces stay as they are.

        Where no face is found, the image counts as a crop with the margin around a face.
        """
        shrunk = []
        for image, faces in zip(images, self._detector.detect(images), strict=True):
            height, width, channels = image.shape
            face = faces.boxes[0, 2] - faces.boxes[0, 0] if len(faces) else max(height, width) / (1.0 + self._margin)
            scale = face_px / max(1.0, float(face))
            if scale < 1.0:
                width, height = max(1, round(width * scale)), max(1, round(height * scale))
                resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                shrunk.append(np.asarray(resized, dtype=np.uint8).reshape(height, width, channels))
            else:
                shrunk.append(image)
        return shrunk


_cropper: FaceCropper | None = None


def _start_worker(size: int, margin: float, detector: DetectorConfig, grayscale: bool, face_px: int | None) -> None:
    global _cropper  # noqa: PLW0603 - a pool's worker has no other place for what it loads once
    _cropper = FaceCropper(size, margin, detector, grayscale=grayscale, face_px=face_px)


def _crop_in_worker(contents: list[bytes | None]) -> tuple[UInt8Array, npt.NDArray[np.int8], Float32Array]:
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
    face_px: int | None = None,
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
        face_px: See `FaceCropper`; the cache does not tell sizes of faces apart.

    Returns:
        The faces in the table's order, without the rows whose image cannot be decoded (see `unreadable`).
    """
    worker_settings = (size, margin, detector or DetectorConfig(), grayscale, face_px)
    states_file = cache.with_name(f"{cache.name}.states.npy") if cache else None
    sides_file = cache.with_name(f"{cache.name}.face_px.npy") if cache else None
    crops_file = cache.with_name(f"{cache.name}.npy") if cache else None
    if crops_file and states_file and states_file.exists() and sides_file and sides_file.exists():
        crops, states, sides = np.load(crops_file, mmap_mode="r"), np.load(states_file), np.load(sides_file)
    else:
        crops = _empty_crops((len(table), size, size, 3), crops_file)
        states = np.full(len(table), UNREADABLE, dtype=np.int8)
        sides = np.full(len(table), np.nan, dtype=np.float32)
        start = 0
        with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=worker_settings) as pool:
            batches = _batches(_column(table, "image"), _IMAGES_PER_TASK)
            for some_crops, some_states, some_sides in pool.map(_crop_in_worker, batches):
                stop = start + len(some_crops)
                crops[start:stop], states[start:stop], sides[start:stop] = some_crops, some_states, some_sides
                start = stop
        if states_file and sides_file:
            np.save(sides_file, sides)
            np.save(states_file, states)  # written last: a killed run leaves no cache that looks complete
    readable = states != UNREADABLE
    unreadable = tuple(np.asarray(_column(table, "image_id"), dtype=object)[~readable])
    if unreadable:
        table = table.filter(pa.array(readable))
        crops, states, sides = crops[readable], states[readable], sides[readable]
    return _encode(table, crops, states == FOUND, sides, unreadable)


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


def _encode(
    table: pa.Table, crops: UInt8Array, detected: BoolArray, sides: Float32Array, unreadable: tuple[str, ...]
) -> LabeledFaces:
    ages = []
    for age, low, high in zip(*(_column(table, name) for name in ("age", "age_min", "age_max")), strict=True):
        if _is_known(low) and _is_known(high):
            ages.append((low, high))
        else:
            ages.append((age, age) if _is_known(age) else (UNLABELED, UNLABELED))
    labels, unknown, unknown_labels = {}, {}, {}
    for attribute in CLASSES:
        index = {label: i for i, label in enumerate(LABELS[attribute])}
        values = _column(table, attribute)
        if attribute == "ethnicity" and "race7" in table.column_names:
            races = _column(table, "race7")
            values = [_RACE7_CLASSES.get(r, v) if v == OTHERS else v for v, r in zip(values, races, strict=True)]
        labels[attribute] = np.array([index.get(value, UNLABELED) for value in values], dtype=np.int64)
        unknown[attribute] = np.array([value is not None and value not in index for value in values], dtype=bool)
        unknown_labels[attribute] = dict(Counter(value for value in values if value is not None and value not in index))
    return LabeledFaces(
        image_id=np.asarray(_column(table, "image_id"), dtype=np.str_),
        crops=crops,
        detected=detected,
        source=np.asarray(_column(table, "source"), dtype=np.str_),
        age_range=np.array(ages, dtype=np.float32).reshape(-1, 2),
        labels=labels,
        identity=_identities(table),
        unknown=unknown,
        unknown_labels=unknown_labels,
        face_px=sides,
        unreadable=unreadable,
    )


def _is_known(age: float | Decimal | None) -> bool:
    """Checks whether a cell has an age; several programs write NaN for none."""
    return age is not None and math.isfinite(age)


def _identities(table: pa.Table) -> Int64Array:
    if "identity" not in table.column_names:
        return np.full(len(table), UNLABELED, dtype=np.int64)
    people: dict[tuple[str, str], int] = {}
    pairs = zip(_column(table, "source"), _column(table, "identity"), strict=True)
    return np.array(
        [UNLABELED if name is None else people.setdefault((source, name), len(people)) for source, name in pairs],
        dtype=np.int64,
    )
