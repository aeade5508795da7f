"""The columns of every table, and checks that a table has the expected ones."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from faceattr_udf.config import OutputConfig
from faceattr_udf.errors import SchemaError
from faceattr_udf.labels import CLASSES
from faceattr_udf.results import BoundingBox, Face, Quality

SCHEMA_VERSION: Final = 2
"""Version of the output tables' columns: raised by every change, each of which is a step in `migrations`. Every run
records it."""

ROW_GROUP_BYTES: Final = 16 * 2**20
"""Image bytes in a row group of an images table. A row group is the smallest unit that a reader holds in memory, skips
when it looks for a few images, or gets as a task."""

_STRING, _FLOAT, _INT, _LONG = StringType(), FloatType(), IntegerType(), LongType()


def _struct(*columns: tuple[str, DataType]) -> StructType:
    return StructType([StructField(name, type_) for name, type_ in columns])


BBOX: Final = _struct(*((field.name, _FLOAT) for field in fields(BoundingBox)))
"""Pixels of the EXIF-upright image."""

QUALITY: Final = _struct(*((field.name, _FLOAT) for field in fields(Quality)))

_PROVENANCE: Final = (
    ("config_id", _STRING),
    ("model_version", _STRING),
    ("run_id", _STRING),
    ("processed_at", TimestampType()),
)

IMAGE_RESULTS: Final = _struct(
    ("image_id", _STRING),
    ("content_sha256", _STRING),
    ("status", _STRING),
    ("error", _STRING),
    ("width", _INT),
    ("height", _INT),
    ("n_faces", _INT),
    *_PROVENANCE,
)
"""One row per image."""

RUNS: Final = _struct(
    ("run_id", _STRING),
    ("state", _STRING),
    ("started_at", TimestampType()),
    ("finished_at", TimestampType()),
    ("engine", _STRING),
    ("images", _STRING),
    ("n_images", _LONG),
    ("n_faces", _LONG),
    ("n_inferred", _LONG),
    ("n_duplicate_rows", _LONG),
    ("n_deleted_images", _LONG),
    ("counts", MapType(_STRING, _LONG)),
    ("images_per_second", _FLOAT),
    ("config_id", _STRING),
    ("model_version", _STRING),
    ("config", _STRING),
    ("schema_version", _INT),
    ("purpose", _STRING),
    ("legal_basis", ArrayType(_STRING)),
    ("jurisdictions", ArrayType(_STRING)),
    ("context", _STRING),
    ("policy_sha256", _STRING),
    ("policy", _STRING),
    ("n_minors", _LONG),
)
"""One row per run. `state` is running, completed, failed, or interrupted (killed; the next run notices)."""

IMAGES: Final = _struct(
    ("image_id", _STRING), ("content", BinaryType()), ("content_sha256", _STRING), ("path", _STRING), ("size", _LONG)
)
"""The images table that `jobs.ingest` writes."""


class FaceColumn(NamedTuple):
    """A column that describes one face.

    Attributes:
        name: The column's name.
        type: The column's type.
        value: Returns the column's value for a face, in a form that Arrow converts to `type`.
    """

    name: str
    type: DataType
    value: Callable[[Face], Any]


def face_columns(output: OutputConfig) -> list[FaceColumn]:
    """Returns the columns that describe one face, optional ones only where the configuration asks for them."""
    columns = [
        FaceColumn("face_index", _INT, attrgetter("face_index")),
        FaceColumn("bbox", BBOX, lambda face: asdict(face.bbox)),
        FaceColumn("det_confidence", _FLOAT, attrgetter("det_confidence")),
        FaceColumn("age", _FLOAT, _predicted("age", attrgetter("age"))),
        FaceColumn("age_low", _FLOAT, _predicted("age", attrgetter("low"))),
        FaceColumn("age_high", _FLOAT, _predicted("age", attrgetter("high"))),
        FaceColumn("age_group", _STRING, _predicted("age", attrgetter("group"))),
        FaceColumn(
            "age_group_probs",
            MapType(_STRING, _FLOAT),
            _predicted("age", lambda age: age.group_probs and list(age.group_probs.items())),
        ),
    ]
    for attribute in CLASSES:
        probs = _predicted(attribute, lambda prediction: list(prediction.probs.items()))
        columns += [
            FaceColumn(attribute, _STRING, _predicted(attribute, attrgetter("label"))),
            FaceColumn(f"{attribute}_confidence", _FLOAT, _predicted(attribute, attrgetter("confidence"))),
            FaceColumn(f"{attribute}_probs", MapType(_STRING, _FLOAT), probs),
        ]
    columns.append(FaceColumn("quality", QUALITY, lambda face: asdict(face.quality)))
    columns.append(FaceColumn("minor", BooleanType(), attrgetter("minor")))
    if output.landmarks:
        point = _struct(("x", _FLOAT), ("y", _FLOAT))
        columns.append(FaceColumn("landmarks", ArrayType(point), _landmarks))
    if output.crops:
        columns.append(FaceColumn("crop", BinaryType(), attrgetter("crop")))
    if output.embeddings:
        columns.append(FaceColumn("embedding", ArrayType(_FLOAT), _embedding))
    return columns


def _predicted(attribute: str, value: Callable[[Any], Any]) -> Callable[[Face], Any]:
    """Returns a function that applies `value` to a face's prediction, and returns None where there is none."""

    def of_face(face: Face) -> Any:  # noqa: ANN401 - one of several column types
        prediction = getattr(face, attribute)
        return None if prediction is None else value(prediction)

    return of_face


def _landmarks(face: Face) -> list[dict[str, float]] | None:
    return None if face.landmarks is None else [{"x": float(x), "y": float(y)} for x, y in face.landmarks]


def _embedding(face: Face) -> list[float] | None:
    return None if face.embedding is None else face.embedding.tolist()


def face_struct(output: OutputConfig) -> StructType:
    """Returns `face_columns` as a struct: nested in the result of `analyze_images`, flat in the faces table."""
    return _struct(*((column.name, column.type) for column in face_columns(output)))


def result_struct(output: OutputConfig) -> StructType:
    """Returns the columns that the UDF computes for one image."""
    return _struct(
        ("status", _STRING),
        ("error", _STRING),
        ("width", _INT),
        ("height", _INT),
        ("n_faces", _INT),
        ("faces", ArrayType(face_struct(output))),
    )


def faces_table(output: OutputConfig, pass_through: Iterable[StructField] = ()) -> StructType:
    """Returns the columns of the faces table: image_id, the face, the provenance and the pass-through columns."""
    passed = [StructField(field.name, field.dataType) for field in pass_through]
    return StructType([StructField("image_id", _STRING), *face_struct(output), *_struct(*_PROVENANCE), *passed])


_ATOMIC: Final[dict[type[DataType], pa.DataType]] = {
    StringType: pa.string(),
    FloatType: pa.float32(),
    IntegerType: pa.int32(),
    LongType: pa.int64(),
    BooleanType: pa.bool_(),
    BinaryType: pa.binary(),
    TimestampType: pa.timestamp("us", tz="UTC"),
}


def arrow_type(type_: DataType) -> pa.DataType:
    """Returns the Arrow type of a Spark type; covers the types that this module uses.

    >>> str(arrow_type(MapType(StringType(), FloatType())))
    'map<string, float>'
    """
    if isinstance(type_, ArrayType):
        return pa.list_(arrow_type(type_.elementType))
    if isinstance(type_, MapType):
        return pa.map_(arrow_type(type_.keyType), arrow_type(type_.valueType))
    if isinstance(type_, StructType):
        return pa.struct([pa.field(field.name, arrow_type(field.dataType)) for field in type_])
    return _ATOMIC[type(type_)]


def check_columns(table: str, actual: StructType, expected: StructType) -> None:
    """Checks that a table has exactly the expected columns, in any order.

    Raises:
        SchemaError: Naming the table and every column that differs.
    """
    have = {field.name: field.dataType.simpleString() for field in actual}
    want = {field.name: field.dataType.simpleString() for field in expected}
    differences = [
        f"{name} is {have[name]} instead of {want[name]}" for name in want if have.get(name, want[name]) != want[name]
    ]
    differences += [f"{name} {want[name]} is missing" for name in want if name not in have]
    differences += [f"{name} is not expected" for name in have if name not in want]
    if differences:
        msg = (
            f"table {table} does not have the columns of schema version {SCHEMA_VERSION} for this configuration "
            f"({'; '.join(differences)}); use the configuration that the table was written with, or name another output"
        )
        raise SchemaError(msg)


def require_column(table: str, actual: StructType, name: str, type_: DataType, key: str) -> None:
    """Checks one column of the input.

    Args:
        table: The table's name in the error.
        actual: The table's columns.
        name: The required column.
        type_: Its required type.
        key: The configuration key that names the column.

    Raises:
        SchemaError: The column is missing or of another type.
    """
    found = {field.name: field.dataType for field in actual}
    if name not in found:
        msg = (
            f"table {table} has no column {name!r} (it has {', '.join(found) or 'none'}); "
            f"set {key} to the right column or add it to the table"
        )
        raise SchemaError(msg)
    if type(found[name]) is not type(type_):
        msg = (
            f"column {name!r} of table {table} is {found[name].simpleString()} instead of {type_.simpleString()}; "
            f"cast it in the table or set {key} to another column"
        )
        raise SchemaError(msg)


def refuse_ambiguous(names: Iterable[str], table: str, used: Iterable[str]) -> None:
    """Checks that no column in use has a name that differs from another's in case only: engines ignore case.

    Args:
        names: The table's columns.
        table: The table's name in the error.
        used: The columns in use.

    Raises:
        SchemaError: Naming both.
    """
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(name.casefold(), []).append(name)
    for name in used:
        if len(spellings.get(name.casefold(), [])) > 1:
            both = " and ".join(repr(one) for one in spellings[name.casefold()])
            msg = f"table {table} has the columns {both}, which engines take for the same; rename one of them"
            raise SchemaError(msg)
