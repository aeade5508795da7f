"""Changes of the faces table when pass-through columns of the images table come, go or change their type."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import structlog
from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    NumericType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from faceattr_udf.config import OutputConfig
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.schemas import check_columns, faces_table
from faceattr_udf.spark.tables import Tables

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ColumnChanges:
    """What to change in an existing faces table.

    Attributes:
        schema: The columns after the changes, in the table's order.
        added: Columns that come; NULL in existing rows until the backfill.
        retyped: Columns with another type; values that it cannot hold become NULL until the backfill.
        kept: Columns that the images table no longer has; NULL in rows from now on.
    """

    schema: StructType
    added: tuple[StructField, ...] = ()
    retyped: tuple[StructField, ...] = ()
    kept: tuple[StructField, ...] = ()

    @classmethod
    def of(
        cls,
        table: str,
        existing: StructType | None,
        output: OutputConfig,
        pass_through: Iterable[StructField],
        generated: Collection[str] = (),
    ) -> "ColumnChanges":
        """Compares a table with the columns that a run writes.

        Args:
            table: The table's name in errors.
            existing: Its columns; None if there is no table.
            output: Decides which columns describe a face.
            pass_through: The pass-through columns.
            generated: Columns whose values Delta computes; nothing is written to them.

        Raises:
            SchemaError: A column other than the pass-through columns differs, or a type cannot be changed.
        """
        wanted = faces_table(output, pass_through)
        if existing is None:
            return cls(wanted)
        own = faces_table(output)
        every = faces_table(output.model_copy(update={"landmarks": True, "crops": True, "embeddings": True}))
        described = StructType([field for field in existing if field.name in every.fieldNames()])
        if _types(described) != _types(own):
            check_columns(table, existing, wanted)
        have, want = _types(existing), _types(wanted)
        passed = [field for field in wanted if field.name not in own.fieldNames()]
        added = tuple(field for field in passed if field.name not in have)
        retyped = tuple(field for field in passed if have.get(field.name, want[field.name]) != want[field.name])
        kept = tuple(StructField(field.name, field.dataType) for field in existing if field.name not in want)
        kept = tuple(field for field in kept if field.name not in generated)
        spellings = {name.casefold(): name for name in have}
        for field in added:
            if field.name.casefold() in spellings:
                msg = (
                    f"column {field.name!r} passes through, and table {table} has it as "
                    f"{spellings[field.name.casefold()]!r}; rename it in the images table, or take it out of "
                    "input.columns.pass_through"
                )
                raise SchemaError(msg)
        for field in retyped:
            if not (_is_simple(field.dataType) and _is_simple(existing[field.name].dataType)):
                msg = (
                    f"column {field.name!r} passes through as {want[field.name]}, and table {table} has it as "
                    f"{have[field.name]}; rename it in the images table, or take it out of input.columns.pass_through"
                )
                raise SchemaError(msg)
        changed = {field.name: field for field in retyped}
        columns = [changed.get(field.name, StructField(field.name, field.dataType)) for field in existing]
        return cls(StructType([*columns, *added]), added, retyped, kept)

    def apply(self, tables: Tables, ref: TableRef) -> None:
        """Changes the table; can be repeated after it was killed."""
        if any("timestamp_ntz" in field.dataType.simpleString() for field in (*self.added, *self.retyped)):
            tables.allow_local_times(ref)
        if self.retyped:
            frame = tables.read(ref)
            have, changed = frame.schema, {field.name: field.dataType for field in self.retyped}
            columns = [
                _converted(field, changed[field.name]) if field.name in changed else F.col(quoted(field.name))
                for field in have
            ]
            tables.rewrite(ref, frame.select(*columns))
        if self.added:
            tables.add_columns(ref, self.schema)
        if self.added or self.retyped:
            log.info(
                "columns_changed",
                table=str(ref),
                added=[field.name for field in self.added],
                retyped=[field.name for field in self.retyped],
            )


def _types(schema: StructType) -> dict[str, str]:
    return {field.name: field.dataType.simpleString() for field in schema}


def _is_simple(type_: DataType) -> bool:
    return isinstance(type_, NumericType | StringType | BooleanType | DateType | TimestampType | TimestampNTZType)


def _converted(field: StructField, type_: DataType) -> Column:
    """Returns a column with another type; NULL where the value does not fit, and everywhere for unrelated types."""
    kinds = (NumericType, DateType | TimestampType | TimestampNTZType)
    related = any(isinstance(field.dataType, kind) and isinstance(type_, kind) for kind in kinds)
    if related or isinstance(field.dataType, StringType) or isinstance(type_, StringType):
        return F.expr(f"try_cast({quoted(field.name)} AS {type_.simpleString()})").alias(field.name)
    # Not a literal, which the embedded engine would make NOT NULL.
    return F.when(F.col("image_id").isNull(), F.lit(None)).cast(type_).alias(field.name)
