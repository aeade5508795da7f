"""What a new table carries beside its columns: a layout for updates, comments, properties, cluster keys and tags.

An engine or catalog without one of these makes the table without it, and the log says so once per table.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession
from pyspark.sql.types import ArrayType, BinaryType, BooleanType, MapType, StructType

from faceattr_udf.config import OutputConfig
from faceattr_udf.errors import ConfigError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.ddl import columns_sql, pairs_sql, text_sql
from faceattr_udf.spark.descriptions import COLUMNS, TABLES
from faceattr_udf.spark.engine_errors import is_transient
from faceattr_udf.spark.locations import TableRef

_NO_KEYS: Final = (ArrayType, BinaryType, BooleanType, MapType, StructType)
"""Types without the statistics that clustering needs."""

DELETION_VECTORS: Final = "delta.enableDeletionVectors"
"""With it an update marks the old rows in a small file, instead of writing all rows of their files again."""

STRING_PREFIX: Final = "delta.dataSkippingStringPrefixLength"
"""The length of strings in the statistics by which files are skipped. Delta keeps 32 characters by default, and the ids
of a catalogue may all begin with the same ones. Delta knows this property since 4.2."""

_PREFIX_LENGTH: Final = 256

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TableDetails:
    """What one new table carries.

    Attributes:
        name: The table's standard name: faces, image_results or runs.
        output: The configuration.
        engine: The session's engine.
    """

    name: str
    output: OutputConfig
    engine: str

    def layout(self) -> dict[str, str]:
        """Returns the properties by which updates of the table rewrite little; the user's own take precedence."""
        if self.engine == "sail":
            return {}  # it writes and vacuums no deletion vectors, and its statistics are not cut
        layout = {STRING_PREFIX: str(_PREFIX_LENGTH)}
        if self.output.deletion_vectors:
            layout[DELETION_VECTORS] = "true"
        return {key: value for key, value in layout.items() if key not in self.output.properties}

    def cluster_keys(self, schema: StructType) -> list[str]:
        """Returns the columns by which this table is clustered, quoted."""
        return [quoted(name) for name in self.output.cluster_by if name in schema.fieldNames()]

    def creations(self, ref: TableRef, schema: StructType) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yields statements that create the table in one commit, and what each leaves out: the first nothing.

        A version of Delta refuses the statement with what it does not know, without writing anything, so that the next
        can be tried. The embedded engine has none of them.
        """
        if self.engine == "sail":
            return
        layout, keys = self.layout(), self.cluster_keys(schema)
        comments = COLUMNS[self.name] if self.output.comments else {}
        create = f"CREATE TABLE IF NOT EXISTS {ref.sql} ({columns_sql(schema, comments)}) USING delta"
        if self.output.comments:
            create += f" COMMENT {text_sql(TABLES[self.name])}"
        # By how new they are.
        optional = [what for what in (STRING_PREFIX, "cluster_by", DELETION_VECTORS) if what in self.beside(schema)]
        for number in range(len(optional) + 1):
            out = tuple(optional[:number])
            properties = {**{key: value for key, value in layout.items() if key not in out}, **self.output.properties}
            clustered = f" CLUSTER BY ({', '.join(keys)})" if keys and "cluster_by" not in out else ""
            told = f" TBLPROPERTIES ({pairs_sql(properties)})" if properties else ""
            yield create + clustered + told, out

    def beside(self, schema: StructType) -> tuple[str, ...]:
        """Returns what a table lacks that a plain write has created."""
        own = any(not key.startswith("delta.") for key in self.output.properties)
        wanted = {"comments": self.output.comments, "properties": own, "cluster_by": bool(self.cluster_keys(schema))}
        return (*(what for what, is_wanted in wanted.items() if is_wanted), *self.layout())

    def options(self) -> dict[str, str]:
        """Returns the writer's options, by which Delta sets properties of a table that is created by a write."""
        return {key: value for key, value in self.output.properties.items() if key.startswith("delta.")}

    def finish(self, spark: SparkSession, ref: TableRef, schema: StructType, left_out: Iterable[str]) -> None:
        """Gives the table its tags, and logs what it lacks: each statement may fail, and is then skipped.

        Args:
            spark: A session.
            ref: The table.
            schema: Its columns.
            left_out: What its creation left out, as `creations` and `beside` name it.
        """
        cannot = "the embedded engine cannot" if self.engine == "sail" else "this version of Delta refuses it"
        layout = self.layout().keys() & set(left_out)
        if layout:  # no one has asked for it
            log.info("table_layout_reduced", table=str(ref), left_out=sorted(layout), reason=cannot)
        skipped = {what: cannot for what in left_out if what not in layout}
        for what, statement in self._tags(ref, schema):
            if self.engine == "sail":
                skipped[what] = cannot
                continue
            try:
                spark.sql(statement).collect()
            except PySparkException as error:
                skipped[what] = first_line(error)
        if skipped:
            log.warning(
                "table_details_skipped",
                table=str(ref),
                skipped=list(skipped),
                reason=next(iter(skipped.values())),
                advice="the table is complete without them; use an engine and a catalog that have them",
            )

    def _tags(self, ref: TableRef, schema: StructType) -> Iterator[tuple[str, str]]:
        table = ref.sql
        if self.output.tags:
            yield "tags", f"ALTER TABLE {table} SET TAGS ({pairs_sql(self.output.tags)})"
        for column, tags in self.output.column_tags.items():
            if column in schema.fieldNames():
                yield "column_tags", f"ALTER TABLE {table} ALTER COLUMN {quoted(column)} SET TAGS ({pairs_sql(tags)})"


def change_layout(spark: SparkSession, ref: TableRef, details: TableDetails, schema: StructType) -> None:
    """Gives an existing table the layout of a new one; no row is written. The log names what Delta refuses."""
    changes = {key: f"SET TBLPROPERTIES ({pairs_sql({key: value})})" for key, value in details.layout().items()}
    if keys := details.cluster_keys(schema):
        changes["cluster_by"] = f"CLUSTER BY ({', '.join(keys)})"
    for what, change in changes.items():
        try:
            spark.sql(f"ALTER TABLE {ref.sql} {change}").collect()
        except PySparkException as error:
            if is_transient(error):
                raise
            log.warning("table_layout_reduced", table=str(ref), left_out=[what], reason=first_line(error))


def present_cluster_keys(detail: Row) -> list[str]:
    """Returns the cluster keys of a table from its DESCRIBE DETAIL; none where Delta is too old to have them."""
    return list(detail.asDict().get("clusteringColumns") or ())


def check_details(output: OutputConfig, schemas: Iterable[StructType]) -> None:
    """Checks that cluster keys and tagged columns exist.

    Args:
        output: The configuration.
        schemas: The columns of the output tables.

    Raises:
        ConfigError: Naming the key, the column and what was expected.
    """
    columns = {field.name: field.dataType for schema in schemas for field in schema}
    for key, names in (("cluster_by", output.cluster_by), ("column_tags", tuple(output.column_tags))):
        for name in names:
            if name not in columns:
                msg = f"output.{key} names {name!r}, which no output table has; choose among {', '.join(columns)}"
                raise ConfigError(msg)
    for name in output.cluster_by:
        if isinstance(columns[name], _NO_KEYS):
            kind = columns[name].simpleString()
            msg = f"output.cluster_by names {name!r} of type {kind[:40]}; choose columns of text, numbers or times"
            raise ConfigError(msg)
