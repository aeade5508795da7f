"""Conditions `column=value` on tables, made of typed values: no text of a user becomes SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    IntegralType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from faceattr_udf.errors import ConfigError
from faceattr_udf.spark.catalog_names import quoted

_DAYS: Final = (DateType, TimestampType, TimestampNTZType)
_USABLE: Final = (StringType, IntegralType, BooleanType, *_DAYS)
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True)
class Condition:
    """A condition on the rows of a table.

    Attributes:
        table: The table's name, as given to `conditions_on`.
        column: The condition.
    """

    table: str
    column: Column


def conditions_on(pairs: Sequence[str], schemas: Mapping[str, StructType]) -> list[Condition]:
    """Returns the conditions that pairs say.

    Args:
        pairs: `column=value` each. Without a value the column is null. A time is compared by its day, UTC.
        schemas: Table -> columns. A column is looked for in the first table first.

    Raises:
        ConfigError: A pair has another form, no table has its column, or the column has no values of such a form.
    """
    return [_condition(pair, schemas) for pair in pairs]


def _condition(pair: str, schemas: Mapping[str, StructType]) -> Condition:
    name, separator, text = pair.partition("=")
    if not separator or not name:
        msg = f"--where {pair!r} is not of the form column=value, e.g. --where emotion=surprise"
        raise ConfigError(msg)
    for table, schema in schemas.items():
        if name in schema.fieldNames():
            type_ = schema[name].dataType
            if not isinstance(type_, _USABLE):
                break
            own = F.col(quoted(name))
            if not text:
                return Condition(table, own.isNull())
            return Condition(table, (F.to_date(own) if isinstance(type_, _DAYS) else own) == F.lit(_value(pair, type_)))
    usable = [field.name for schema in schemas.values() for field in schema if isinstance(field.dataType, _USABLE)]
    msg = (
        f"--where {pair!r} names no column of text, whole numbers, days or true and false; "
        f"choose among {', '.join(dict.fromkeys(usable))}"
    )
    raise ConfigError(msg)


def _value(pair: str, type_: DataType) -> Any:  # noqa: ANN401 - as many types as columns
    """Returns the value of a pair with its column's type."""
    text = pair.partition("=")[2]
    expected = ""
    if isinstance(type_, BooleanType):
        expected = "true or false"
        if text in {"true", "false"}:
            return text == "true"
    elif isinstance(type_, _DAYS):
        expected = "a day such as 2026-11-30"
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    elif isinstance(type_, IntegralType):
        expected = "a whole number"
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) < 20 and int(digits) <= _LARGEST:
            return int(text)
    else:
        return text
    msg = f"--where {pair!r} is wrong: the column has the type {type_.simpleString()}; give {expected}"
    raise ConfigError(msg)
