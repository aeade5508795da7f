"""Schema migrations: recognizes output tables of earlier schema versions and brings them to the current one.

A table's version follows from its column names, which survive every copy and rewrite. So every change of a table is a
step here, under a new `SCHEMA_VERSION`, and adds a column with a name that was never used before. A column whose
meaning changes gets a new name, too, so that no query misreads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import ArrayType, BooleanType, DataType, FloatType, LongType, MapType, StringType

from faceattr_udf.config import OutputConfig
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.schemas import IMAGE_RESULTS, RUNS, SCHEMA_VERSION, faces_table
from faceattr_udf.spark.tables import Tables


@dataclass(frozen=True)
class AddColumn:
    """A migration step: adds a column to a table.

    Attributes:
        table: faces, image_results or runs.
        version: The schema version that the step leads to.
        name: The column's name.
        type: The column's type.
        value: Its value in existing rows, as a SQL expression of the other columns.
    """

    table: str
    version: int
    name: str
    type: DataType
    value: str = "NULL"

    def apply(self, frame: DataFrame) -> DataFrame:
        """Returns the table with the column."""
        # With a constant the embedded engine would make the column NOT NULL. The key is never NULL.
        key = F.col(frame.columns[0])
        return frame.withColumn(self.name, F.when(key.isNotNull(), F.expr(self.value).cast(self.type)))

    def __str__(self) -> str:
        return f"{self.table}: new column {self.name}, {self.value} in existing rows"


STEPS: Final[tuple[AddColumn, ...]] = (
    AddColumn("faces", 2, "minor", BooleanType()),
    AddColumn("faces", 2, "age_group_probs", MapType(StringType(), FloatType())),
    AddColumn("runs", 2, "purpose", StringType()),
    AddColumn("runs", 2, "legal_basis", ArrayType(StringType())),
    AddColumn("runs", 2, "jurisdictions", ArrayType(StringType())),
    AddColumn("runs", 2, "context", StringType()),
    AddColumn("runs", 2, "policy_sha256", StringType()),
    AddColumn("runs", 2, "policy", StringType()),
    AddColumn("runs", 2, "n_minors", LongType()),
)
"""By rising version. Version 1 is the first, so no step leads to it."""


_COLUMNS: Final = {
    "faces": faces_table(OutputConfig()).fieldNames(),
    "image_results": IMAGE_RESULTS.fieldNames(),
    "runs": RUNS.fieldNames(),
}
"""Table -> its columns in every configuration."""


def check_schema_version(tables: Tables, refs: Mapping[str, TableRef], output: str) -> None:
    """Checks that the existing tables have the current schema version.

    Args:
        tables: The engine's table operations.
        refs: The references of faces, image_results and runs.
        output: The user's name of their location.

    Raises:
        SchemaError: A table has an earlier or later version; the message names both versions and the fix.
    """
    _refuse_later(tables, refs, output)
    found = min(version_of(tables, name, ref) for name, ref in refs.items())
    if found < SCHEMA_VERSION:
        msg = (
            f"the tables in {output} have schema version {found} and this release of faceattr_udf writes version "
            f"{SCHEMA_VERSION}; run python -m jobs.maintain --output {output} migrate, with the same configuration"
        )
        raise SchemaError(msg)


def version_of(tables: Tables, name: str, ref: TableRef) -> int:
    """Returns the schema version of a table, or the current version if the table does not exist."""
    frame = tables.find(ref) if any(step.table == name for step in STEPS) else None
    pending = [] if frame is None else _pending(name, frame)
    return pending[0].version - 1 if pending else SCHEMA_VERSION


def migrate(tables: Tables, refs: Mapping[str, TableRef], output: str) -> list[AddColumn]:
    """Migrates the existing tables to the current schema version; can be repeated after it was killed.

    Each table is rewritten in one commit, so readers never see a half-migrated table. No run may write meanwhile.

    Args:
        tables: The engine's table operations.
        refs: The references of faces, image_results and runs.
        output: The user's name of their location.

    Returns:
        The steps that were applied.

    Raises:
        SchemaError: A later release wrote the tables.
    """
    _refuse_later(tables, refs, output)
    applied: list[AddColumn] = []
    for name, ref in refs.items():
        frame = tables.find(ref)
        pending = [] if frame is None else _pending(name, frame)
        if frame is None or not pending:
            continue
        for step in pending:
            frame = step.apply(frame)
        tables.rewrite(ref, frame)
        applied += pending
    return applied


def _pending(name: str, frame: DataFrame) -> list[AddColumn]:
    """Returns the steps that a table lacks; none for a table of other columns, which no earlier release wrote."""
    added = {step.name for step in STEPS if step.table == name}
    if not set(_COLUMNS[name]) - added <= set(frame.columns):
        return []
    return [step for step in STEPS if step.table == name and step.name not in frame.columns]


def _refuse_later(tables: Tables, refs: Mapping[str, TableRef], output: str) -> None:
    """Raises a `SchemaError` if a recorded run had a later schema version, whose columns are not known here."""
    runs = tables.find(refs["runs"])
    if runs is None or "schema_version" not in runs.columns:
        return
    row = runs.agg(F.max("schema_version").alias("latest")).first()
    latest = int(row["latest"] or 0) if row else 0
    if latest > SCHEMA_VERSION:
        msg = (
            f"the tables in {output} have schema version {latest} and this release of faceattr_udf knows versions up "
            f"to {SCHEMA_VERSION}; install the release that wrote them, or name another output"
        )
        raise SchemaError(msg)
