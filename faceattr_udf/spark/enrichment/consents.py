"""The table of consents: which subjects agree to a purpose at a moment."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import DataType, IntegralType, StringType, StructType, TimestampType

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError, TableNotFoundError
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.input_columns import SUBJECT
from faceattr_udf.spark.locations import input_ref
from faceattr_udf.spark.schemas import refuse_ambiguous
from faceattr_udf.spark.tables import Tables

_TIMES: Final = ("granted_at", "expires_at", "withdrawn_at")
_REQUIRED: Final = ("subject_id", "purpose", "granted_at")


@dataclass(frozen=True)
class ConsentTable:
    """A table of consents with checked columns.

    Attributes:
        frame: Its rows.
        purpose: The purpose that is asked for.
    """

    frame: DataFrame
    purpose: str

    @classmethod
    def open(cls, tables: Tables, config: Config) -> "ConsentTable | None":
        """Opens the configured table; returns None if there is none.

        Args:
            tables: The engine's table operations.
            config: Names the table and the purpose.

        Raises:
            TableNotFoundError: The table does not exist.
            SchemaError: A column is missing or has another type.
        """
        location = config.consent.table
        if location is None or config.privacy.purpose is None:
            return None
        detecting = config.model_copy(update={"input": config.input.model_copy(update={"format": "auto"})})
        try:
            frame = tables.read(input_ref(qualified(tables.spark, location), detecting))
        except TableNotFoundError as error:
            msg = f"the table of consents {location} does not exist; set consent.table to an existing table"
            raise TableNotFoundError(msg) from error
        _check(frame.schema, location)
        return cls(frame, config.privacy.purpose)

    def subjects(self, at: datetime) -> DataFrame:
        """Returns one row (`SUBJECT`, string) per subject with consent.

        A subject has consent if a row for the purpose was granted, has not expired and was not withdrawn, and if no
        other row for the purpose was withdrawn at or after that grant. In doubt (a null, a withdrawal in the future)
        there is no consent.

        Args:
            at: The moment, with a time zone.
        """
        now = F.lit(at)
        granted, expires, withdrawn = (self._time(name) for name in _TIMES)
        valid = (granted <= now) & (expires.isNull() | (expires > now)) & withdrawn.isNull()
        rows = self.frame.where(F.col("subject_id").isNotNull() & (F.col("purpose") == self.purpose)).select(
            F.col("subject_id").cast("string").alias(SUBJECT),
            F.when(valid, granted).alias("_granted"),
            withdrawn.alias("_withdrawn"),
        )
        latest = rows.groupBy(SUBJECT).agg(F.max("_granted").alias("_granted"), F.max("_withdrawn").alias("_withdrawn"))
        agreed = F.col("_granted").isNotNull() & (
            F.col("_withdrawn").isNull() | (F.col("_granted") > F.col("_withdrawn"))
        )
        return latest.where(agreed).select(SUBJECT)

    def _time(self, name: str) -> Column:
        return F.col(name) if name in self.frame.columns else F.lit(None).cast("timestamp")


def _check(schema: StructType, table: str) -> None:
    names = schema.fieldNames()
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        msg = (
            f"the table of consents {table} has no column {', '.join(missing)} (it has {', '.join(names) or 'none'}); "
            f"it needs {', '.join(_REQUIRED)}, and may have expires_at and withdrawn_at"
        )
        raise SchemaError(msg)
    refuse_ambiguous(names, table, [name for name in names if name in {*_REQUIRED, *_TIMES}])
    wanted: dict[str, tuple[type[DataType], ...]] = {"subject_id": (StringType, IntegralType), "purpose": (StringType,)}
    wanted |= {name: (TimestampType,) for name in _TIMES if name in names}
    expected = {"subject_id": "text or whole numbers", "purpose": "text"}
    for name, types in wanted.items():
        found = schema[name].dataType
        if not isinstance(found, types):
            msg = (
                f"column {name!r} of the table of consents {table} is {found.simpleString()} instead of "
                f"{expected.get(name, 'a timestamp with time zone')}; cast it in the table"
            )
            raise SchemaError(msg)
