"""The columns of an images table, without an engine."""

import pytest
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    ByteType,
    DataType,
    DayTimeIntervalType,
    DoubleType,
    IntegerType,
    LongType,
    NullType,
    StringType,
    StructField,
    StructType,
)

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.input_columns import InputColumns

TEXT, BYTES = StringType(), BinaryType()


def check(columns: dict[str, DataType], **named: object) -> InputColumns:
    schema = StructType([StructField(name, type_) for name, type_ in columns.items()])
    return InputColumns.check(schema, "t", Config.from_mapping({"input": {"columns": named}}))


def passed(name: str, type_: DataType = TEXT) -> list[str]:
    columns = {"image_id": TEXT, "content": BYTES, name: type_}
    return [field.name for field in check(columns, pass_through=[name]).pass_through]


@pytest.mark.parametrize(
    "name",
    [
        *("_hash", "_new", "_delete", "source_id", "reuse_source", "status", "width", "content_sha256"),
        *("a.b", "ü", "_rescued"),
    ],
)
def test_any_name_passes_through(name: str) -> None:
    assert passed(name) == [name]


@pytest.mark.parametrize("name", ["Age", "BBOX", "run_id", "Content", "IMAGE_ID", "__faceattr_delete"])
def test_names_of_the_faces_table_are_refused_in_any_case(name: str) -> None:
    with pytest.raises(SchemaError, match=f"names {name}, which the faces table already has|and '{name}', which"):
        passed(name)


@pytest.mark.parametrize("name", ["captured at (UTC)", "a,b", "a=b", "a;b", "a{b}", "tab\tname"])
def test_names_that_delta_refuses_are_refused_before_any_work(name: str) -> None:
    with pytest.raises(SchemaError, match="rename it in the images table"):
        passed(name)
    check({"image_id": TEXT, "content": BYTES, name: TEXT})  # harmless where it does not pass through


def test_names_that_differ_in_case_only() -> None:
    with pytest.raises(SchemaError, match="has the columns 'image_id' and 'IMAGE_ID', which engines take for the same"):
        check({"image_id": TEXT, "content": BYTES, "IMAGE_ID": TEXT})
    check({"image_id": TEXT, "content": BYTES, "other": TEXT, "OTHER": TEXT})


def test_types_that_no_table_keeps_are_refused() -> None:
    interval = DayTimeIntervalType()
    with pytest.raises(SchemaError, match="column 'x' of table t is interval day to second, which Delta tables cannot"):
        passed("x", interval)
    with pytest.raises(SchemaError, match=r"is array<interval"):
        passed("x", ArrayType(interval))


def test_column_without_a_type_does_not_pass_through_yet() -> None:
    assert passed("x", NullType()) == []


def test_ids() -> None:
    for kind in (ByteType(), IntegerType(), LongType()):
        check({"image_id": kind, "content": BYTES})
    with pytest.raises(SchemaError, match=r"is binary, .*add a column such as hex\(id\)"):
        check({"image_id": BYTES, "content": BYTES})
    with pytest.raises(SchemaError, match="is double instead of string"):
        check({"image_id": DoubleType(), "content": BYTES})


def test_field_of_a_struct_is_the_content() -> None:
    image = StructType([StructField("bytes", BYTES), StructField("path", TEXT)])
    columns: dict[str, DataType] = {"image_id": TEXT, "image": image}
    check(columns, content="image.bytes")
    with pytest.raises(SchemaError, match=r"'image' of table t is a struct; set .*content to .* \(image\.bytes\)"):
        check(columns, content="image")
    with pytest.raises(SchemaError, match="table t, struct image has no column 'data'"):
        check(columns, content="image.data")
    with pytest.raises(SchemaError, match=r"table t has no column 'photo\.bytes'"):
        check(columns, content="photo.bytes")
