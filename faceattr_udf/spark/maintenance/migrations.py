"""Output tables of earlier schema versions: how they are recognised, and the steps that bring them to this one.

A table does not say its version, its columns do: whatever rewrites or copies a table keeps those. So every change of a
table is a step here, under a new `SCHEMA_VERSION`, and must be seen in the names of the columns: a column whose meaning
changes gets a new name, which also keeps queries from reading it wrongly. A name is never used a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import DataType

from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.schemas import SCHEMA_VERSION
from faceattr_udf.spark.tables import Tables


class Step(Protocol):
    """One change of one table's columns; as text, what a person reads about it.

    Attributes:
        table: faces, image_results or runs.
        version: The schema version that the step leads to.
    """

    @property
    def table(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102

    def is_done(self, columns: Sequence[str]) -> bool:
        """Whether the columns prove that the table is past this step, and so past all earlier ones."""
        ...

    def apply(self, frame: DataFrame) -> DataFrame:
        """Returns the table after the step; unchanged where there is nothing to change."""
        ...


@dataclass(frozen=True)
class AddColumn:
    """A new column.

    Attributes:
        table: See `Step`.
        version: See `Step`.
        name: The column.
        kind: Its type.
        value: What it holds in the rows that are there, as a SQL expression of the other columns.
    """

    table: str
    version: int
    name: str
    kind: DataType
    value: str = "NULL"

    def is_done(self, columns: Sequence[str]) -> bool:
        """See `Step`."""
        return self.name in columns

    def apply(self, frame: DataFrame) -> DataFrame:
        """See `Step`."""
        if self.is_done(frame.columns):
            return frame
        # Later rows may hold NULL, which the embedded engine would forbid after a constant; the key is never NULL.
        key = F.col(frame.columns[0])
        return frame.withColumn(self.name, F.when(key.isNotNull(), F.expr(self.value).cast(self.kind)))

    def __str__(self) -> str:
        return f"{self.table}: new column {self.name}, {self.value} in the rows that were there"


@dataclass(frozen=True)
class RenameColumn:
    """Another name for the same values; nothing to do where an optional column is not there.

    Attributes:
        table: See `Step`.
        version: See `Step`.
        old: The earlier name.
        new: The name from this version on.
    """

    table: str
    version: int
    old: str
    new: str

    def is_done(self, columns: Sequence[str]) -> bool:
        """See `Step`."""
        return self.new in columns

    def apply(self, frame: DataFrame) -> DataFrame:
        """See `Step`."""
        return frame.withColumnRenamed(self.old, self.new)

    def __str__(self) -> str:
        return f"{self.table}: {self.old} is now called {self.new}"


@dataclass(frozen=True)
class DropColumn:
    """A column that is no longer kept.

    Attributes:
        table: See `Step`.
        version: See `Step`.
        name: The column.
    """

    table: str
    version: int
    name: str

    def is_done(self, columns: Sequence[str]) -> bool:  # noqa: ARG002
        """Never proven: a table without the column may be from before it was added."""
        return False

    def apply(self, frame: DataFrame) -> DataFrame:
        """See `Step`."""
        return frame.drop(self.name)

    def __str__(self) -> str:
        return f"{self.table}: no column {self.name} any more"


STEPS: Final[tuple[Step, ...]] = ()
"""By rising version. Version 1 is the first, so nothing leads to it."""


def require_current(tables: Tables, refs: Mapping[str, TableRef], output: str) -> None:
    """Checks that the tables that exist are of this schema version.

    Args:
        tables: The engine's tables.
        refs: faces, image_results and runs.
        output: How the user names where they are.

    Raises:
        SchemaError: One is of an earlier or a later version; names both and the way out.
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
    """Returns the schema version of a table; the current one where there is no table."""
    frame = tables.find(ref) if _steps(name) else None
    steps = [] if frame is None else _pending(name, frame)
    return steps[0].version - 1 if steps else SCHEMA_VERSION


def migrate(tables: Tables, refs: Mapping[str, TableRef], output: str) -> list[Step]:
    """Brings the tables that exist to the current schema version; killed in between, it can simply be run again.

    Each table is rewritten in one commit, so no reader sees it half migrated. No run may write meanwhile.

    Args:
        tables: The engine's tables.
        refs: faces, image_results and runs.
        output: How the user names where they are.

    Returns:
        The steps that were done.

    Raises:
        SchemaError: A later release wrote them.
    """
    _refuse_later(tables, refs, output)
    done: list[Step] = []
    for name, ref in refs.items():
        frame = tables.find(ref)
        steps = [] if frame is None else _pending(name, frame)
        if frame is None or not steps:
            continue
        for step in steps:
            frame = step.apply(frame)
        tables.rewrite(ref, frame)
        done += steps
    return done


def _pending(name: str, frame: DataFrame) -> list[Step]:
    """The steps that would still change the table; none where together they lead back to its columns."""
    steps = _steps(name)
    past = max((number for number, step in enumerate(steps, 1) if step.is_done(frame.columns)), default=0)
    before, pending = frame.columns, []
    for step in steps[past:]:
        after = step.apply(frame)
        if after.columns != frame.columns:
            pending.append(step)
        frame = after
    return pending if frame.columns != before else []


def _steps(name: str) -> list[Step]:
    return [step for step in STEPS if step.table == name]


def _refuse_later(tables: Tables, refs: Mapping[str, TableRef], output: str) -> None:
    """Looks at what the runs have recorded: the columns of a later release are not known here."""
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
