"""The columns of an images table: which of them a run uses, and whether it can, before any work is done."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    FractionalType,
    IntegralType,
    LongType,
    MapType,
    NullType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from faceattr_udf.config import ColumnsConfig, Config, InputConfig
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.parquet_input import Wanted
from faceattr_udf.spark.schemas import faces_table, refuse_ambiguous, require_column

WORK_PREFIX: Final = "__faceattr_"
"""Begins the names of columns that the work adds to rows of the faces table; no pass-through column has it."""

DELETE_FLAG: Final = f"{WORK_PREFIX}delete"
"""True in rows to merge whose key is to be deleted."""

SUBJECT: Final = f"{WORK_PREFIX}subject"
"""The subject of an image or of a consent, as text."""

_FORBIDDEN: Final = " ,;{}()\n\t="
"""Characters that Delta refuses in a column's name, unless columns are mapped."""

_KEPT: Final = (
    *(BinaryType, BooleanType, DateType, DecimalType, FractionalType, IntegralType, StringType),
    *(TimestampNTZType, TimestampType),
)


def wanted_columns(config: Config) -> Wanted:
    """Returns the columns that a run reads."""
    columns = config.input.columns
    consent = [columns.consent] if config.input.require_consent else []
    if config.consent.table is not None:
        consent.append(config.consent.subject)
    return Wanted(columns.image_id, columns.content, columns.content_sha256, (*consent, "size", *columns.pass_through))


@dataclass(frozen=True)
class InputColumns:
    """The checked columns of an images table.

    Attributes:
        names: The configured names.
        schema: The table's columns.
        pass_through: The columns that are copied to the faces, with their names there.
        subject_column: The column of subjects, where a table of consents decides; else None.
    """

    names: ColumnsConfig
    schema: StructType
    pass_through: tuple[StructField, ...]
    subject_column: str | None = None

    @classmethod
    def check(cls, schema: StructType, table: str, config: Config) -> "InputColumns":
        """Checks the columns that the configuration names.

        Args:
            schema: The table's columns.
            table: Its name in errors.
            config: The configuration.

        Raises:
            SchemaError: A column is missing, has the wrong type or an ambiguous name, or the faces table cannot have a
                pass-through column of its name or type.
        """
        names = config.input.columns
        _require_id(schema, table, names.image_id)
        require_content(schema, table, config.input)
        if names.content_sha256 in schema.fieldNames():
            require_column(table, schema, names.content_sha256, StringType(), "input.columns.content_sha256")
        if config.input.require_consent:
            require_column(table, schema, names.consent, BooleanType(), "input.columns.consent")
        subject = config.consent.subject if config.consent.table is not None else None
        if subject is not None and not (
            subject in schema.fieldNames() and isinstance(schema[subject].dataType, IntegralType)
        ):
            require_column(table, schema, subject, StringType(), "consent.subject")
        passed = [field for field in schema if field.name in names.pass_through]
        passed = [field for field in passed if not isinstance(field.dataType, NullType)]  # no value says its type yet
        used = [
            names.image_id,
            names.content.partition(".")[0],
            names.content_sha256,
            *(field.name for field in passed),
        ]
        if config.input.require_consent:
            used.append(names.consent)
        if subject is not None:
            used.append(subject)
        refuse_ambiguous(schema.fieldNames(), table, used)
        _refuse_names(passed, names, faces_table(config.output).fieldNames())
        for field in passed:
            if not _is_kept(field.dataType):
                msg = (
                    f"column {field.name!r} of table {table} is {field.dataType.simpleString()}, which Delta tables "
                    "cannot keep; cast it in the table, or take it out of input.columns.pass_through"
                )
                raise SchemaError(msg)
        return cls(names, schema, tuple(passed), subject)

    @property
    def image_id(self) -> Column:
        """The ids, as strings."""
        own = F.col(quoted(self.names.image_id))
        if isinstance(self.schema[self.names.image_id].dataType, StringType):
            return own
        return own.cast("string")

    @property
    def content(self) -> Column:
        """The encoded bytes."""
        return F.col(_path(self.names.content, self.schema))

    @property
    def content_column(self) -> str:
        """The column of `content`, or the struct that it is a field of."""
        name = self.names.content
        return name if name in self.schema.fieldNames() else name.partition(".")[0]

    @property
    def given_hash(self) -> Column:
        """The hashes that the table has."""
        return F.col(quoted(self.names.content_sha256))

    @property
    def consent(self) -> Column:
        """Whether there is consent; NULL counts as none."""
        return F.coalesce(self.agreement, F.lit(False))

    @property
    def agreement(self) -> Column:
        """The column itself, as a condition: engines skip files and row groups by it, unlike by `consent`."""
        return F.col(quoted(self.names.consent))

    @property
    def subject(self) -> Column | None:
        """The subjects as strings, where a table of consents decides."""
        return None if self.subject_column is None else F.col(quoted(self.subject_column)).cast("string")

    @property
    def size(self) -> Column | None:
        """The sizes of files that an ingestion left out, if the table has them."""
        known = any(field.name == "size" and isinstance(field.dataType, LongType) for field in self.schema)
        return F.col("size") if known else None


def _path(name: str, schema: StructType) -> str:
    """Returns a column, or a field of a struct, as a quoted name.

    >>> _path("image.bytes", StructType().add("image", StructType().add("bytes", "binary")))
    '`image`.`bytes`'
    >>> _path("image.bytes", StructType().add("image.bytes", "binary"))
    '`image.bytes`'
    """
    outer, dot, inner = name.partition(".")
    if dot and name not in schema.fieldNames():
        return f"{quoted(outer)}.{quoted(inner)}"
    return quoted(name)


def _require_id(schema: StructType, table: str, name: str) -> None:
    if name in schema.fieldNames() and isinstance(schema[name].dataType, IntegralType):
        return
    if name in schema.fieldNames() and isinstance(schema[name].dataType, BinaryType):
        msg = (
            f"column {name!r} of table {table} is binary, and ids are text or whole numbers; "
            "add a column such as hex(id) and set input.columns.image_id to it"
        )
        raise SchemaError(msg)
    require_column(table, schema, name, StringType(), "input.columns.image_id")


def require_content(schema: StructType, table: str, options: InputConfig) -> None:
    """Checks the column of images, or the field of a struct: binary, or text if `input.content_encoding` says so.

    Raises:
        SchemaError: It is missing or of another type.
    """
    name, key = options.columns.content, "input.columns.content"
    type_ = StringType() if options.content_encoding == "base64" else BinaryType()
    outer, dot, inner = name.partition(".")
    if name not in schema.fieldNames() and dot and outer in schema.fieldNames():
        struct = schema[outer].dataType
        if isinstance(struct, StructType):
            require_column(f"{table}, struct {outer}", struct, inner, type_, key)
            return
    found = schema[name].dataType if name in schema.fieldNames() else None
    if isinstance(found, StructType):
        fields = [f"{name}.{field.name}" for field in found if field.dataType == type_]
        msg = (
            f"column {name!r} of table {table} is a struct; set {key} to the field of its bytes "
            f"({', '.join(fields) or f'it has no {type_.simpleString()} field'})"
        )
        raise SchemaError(msg)
    if type_ == BinaryType() and isinstance(found, StringType):
        msg = (
            f'column {name!r} of table {table} is text; set input.content_encoding = "base64" if it is base64, or '
            "download the images of its URLs or paths into a binary column first"
        )
        raise SchemaError(msg)
    require_column(table, schema, name, type_, key)


def _refuse_names(passed: list[StructField], names: ColumnsConfig, taken: Iterable[str]) -> None:
    lower = {name.casefold() for name in taken}
    outer = names.content.partition(".")[0]
    lower |= {names.content.casefold(), outer.casefold()}
    # Those that the table lacks as well, because the next table may have them.
    clash = [name for name in names.pass_through if name.casefold() in lower or name.casefold().startswith(WORK_PREFIX)]
    if clash:
        msg = f"input.columns.pass_through names {', '.join(clash)}, which the faces table already has; leave it out"
        raise SchemaError(msg)
    odd = [field.name for field in passed if set(field.name) & set(_FORBIDDEN)]
    if odd:
        msg = (
            f"input.columns.pass_through names {', '.join(map(repr, odd))}, and a Delta table's column has no "
            "blanks, commas, semicolons, braces, brackets or equals signs in its name; rename it in the images table"
        )
        raise SchemaError(msg)


def _is_kept(type_: DataType) -> bool:
    if isinstance(type_, ArrayType):
        return _is_kept(type_.elementType)
    if isinstance(type_, MapType):
        return _is_kept(type_.keyType) and _is_kept(type_.valueType)
    if isinstance(type_, StructType):
        return all(_is_kept(field.dataType) for field in type_)
    return isinstance(type_, _KEPT) or type_.typeName() == "variant"
