"""Columns and texts as SQL, for statements that create tables."""

from collections.abc import Mapping

from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from faceattr_udf.spark.catalog_names import quoted


def columns_sql(schema: StructType, comments: Mapping[str, str]) -> str:
    r"""Returns the columns of a table as in CREATE TABLE.

    Args:
        schema: The columns; all are nullable.
        comments: Column -> comment.

    >>> schema = StructType().add("id", "string").add("odd name", StructType().add("a b", "integer"))
    >>> columns_sql(schema, {"id": "it's one"})
    "`id` string COMMENT 'it\\'s one', `odd name` struct<`a b`:int>"
    """
    return ", ".join(
        f"{quoted(field.name)} {_type_sql(field.dataType)}"
        + (f" COMMENT {text_sql(comments[field.name])}" if field.name in comments else "")
        for field in schema
    )


def _type_sql(type_: DataType) -> str:
    # `simpleString` does not quote the names inside a struct.
    if isinstance(type_, StructType):
        inside = (f"{quoted(field.name)}:{_type_sql(field.dataType)}" for field in type_)
        return f"struct<{','.join(inside)}>"
    if isinstance(type_, ArrayType):
        return f"array<{_type_sql(type_.elementType)}>"
    if isinstance(type_, MapType):
        return f"map<{_type_sql(type_.keyType)},{_type_sql(type_.valueType)}>"
    return type_.simpleString()


def pairs_sql(pairs: Mapping[str, str]) -> str:
    """Returns properties or tags as in SET TBLPROPERTIES (...)."""
    return ", ".join(f"{text_sql(key)} = {text_sql(value)}" for key, value in pairs.items())


def text_sql(text: str) -> str:
    r"""Returns a string as a SQL literal.

    >>> text_sql("it's")
    "'it\\'s'"
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
