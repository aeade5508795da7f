"""Every table's columns, and the check that a table on disk still has them."""

from collections.abc import Iterable
from typing import Final

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

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.config import OutputConfig
from faceattr_udf.errors import SchemaError

SCHEMA_VERSION: Final = 1
"""Counts the changes of the output tables' columns, each a step in `migrations`; recorded with every run."""

ROW_GROUP_BYTES: Final = 16 * 2**20
"""Content in a row group of an images table: the least that a reader holds in memory, that it skips when it looks for
few images, and that can be a task."""

_STRING, _FLOAT, _INT, _LONG = StringType(), FloatType(), IntegerType(), LongType()


def _struct(*columns: tuple[str, DataType]) -> StructType:
    return StructType([StructField(name, kind) for name, kind in columns])


BBOX: Final = _struct(("x_min", _FLOAT), ("y_min", _FLOAT), ("x_max", _FLOAT), ("y_max", _FLOAT))
"""Pixels of the EXIF-upright image."""

QUALITY: Final = _struct(
    ("face_px", _FLOAT), ("blur", _FLOAT), ("brightness", _FLOAT), ("yaw", _FLOAT), ("pitch", _FLOAT), ("roll", _FLOAT)
)

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
)
"""One row per run: running, completed, failed, or interrupted (killed, found by the next run)."""

IMAGES: Final = _struct(
    ("image_id", _STRING), ("content", BinaryType()), ("content_sha256", _STRING), ("path", _STRING), ("size", _LONG)
)
"""What `jobs.ingest` writes."""


def face_struct(output: OutputConfig) -> StructType:
    """The columns that describe one face, as they are nested in `analyze_images` and flat in the faces table."""
    columns: list[tuple[str, DataType]] = [
        ("face_index", _INT),
        ("bbox", BBOX),
        ("det_confidence", _FLOAT),
        ("age", _FLOAT),
        ("age_low", _FLOAT),
        ("age_high", _FLOAT),
        ("age_group", _STRING),
    ]
    for attribute in CLASSES:
        columns += [
            (attribute, _STRING),
            (f"{attribute}_confidence", _FLOAT),
            (f"{attribute}_probs", MapType(_STRING, _FLOAT)),
        ]
    columns.append(("quality", QUALITY))
    if output.landmarks:
        columns.append(("landmarks", ArrayType(_struct(("x", _FLOAT), ("y", _FLOAT)))))
    if output.crops:
        columns.append(("crop", BinaryType()))
    if output.embeddings:
        columns.append(("embedding", ArrayType(_FLOAT)))
    return _struct(*columns)


def result_struct(output: OutputConfig) -> StructType:
    """The columns that the UDF computes for one image."""
    return _struct(
        ("status", _STRING),
        ("error", _STRING),
        ("width", _INT),
        ("height", _INT),
        ("n_faces", _INT),
        ("faces", ArrayType(face_struct(output))),
    )


def faces_table(output: OutputConfig, pass_through: Iterable[StructField] = ()) -> StructType:
    """One row per face: its image, the face, where the row comes from, and the input's own columns."""
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


def arrow_type(kind: DataType) -> pa.DataType:
    """Returns the Arrow type of one of the Spark types that this module uses.

    >>> str(arrow_type(MapType(StringType(), FloatType())))
    'map<string, float>'
    """
    if isinstance(kind, ArrayType):
        return pa.list_(arrow_type(kind.elementType))
    if isinstance(kind, MapType):
        return pa.map_(arrow_type(kind.keyType), arrow_type(kind.valueType))
    if isinstance(kind, StructType):
        return pa.struct([pa.field(field.name, arrow_type(field.dataType)) for field in kind])
    return _ATOMIC[type(kind)]


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
    differences += [f"{name} {want[name]} is not there" for name in want if name not in have]
    differences += [f"{name} is not expected" for name in have if name not in want]
    if differences:
        msg = (
            f"table {table} does not have the columns of schema version {SCHEMA_VERSION} for this configuration "
            f"({'; '.join(differences)}); use the configuration that it was made with, or name another output"
        )
        raise SchemaError(msg)


def require_column(table: str, actual: StructType, name: str, kind: DataType, key: str) -> None:
    """Checks one column of the input.

    Args:
        table: How the user names the table.
        actual: Its columns.
        name: The column.
        kind: Its type.
        key: The configuration key that names the column.

    Raises:
        SchemaError: The column is missing or of another type.
    """
    found = {field.name: field.dataType for field in actual}
    if name not in found:
        msg = (
            f"table {table} has no column {name!r} (it has {', '.join(found) or 'none'}); "
            f"name the right one in {key} or add it to the table"
        )
        raise SchemaError(msg)
    if type(found[name]) is not type(kind):
        msg = (
            f"column {name!r} of table {table} is {found[name].simpleString()} instead of {kind.simpleString()}; "
            f"cast it in the table or name another column in {key}"
        )
        raise SchemaError(msg)
