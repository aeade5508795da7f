"""What a new table carries beside its columns: comments, properties, cluster keys and tags.

An engine or catalog without one of these makes the table without it, and the log says so once per table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, BinaryType, BooleanType, MapType, StructField, StructType

from faceattr_udf.config import OutputConfig
from faceattr_udf.errors import ConfigError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.descriptions import COLUMNS, TABLES
from faceattr_udf.spark.locations import TableRef

_NO_KEYS: Final = (ArrayType, BinaryType, BooleanType, MapType, StructType)
"""Types without the statistics that clustering needs."""

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

    def described(self, schema: StructType) -> StructType:
        """Returns the columns with their comments, where they are wanted and the engine writes them."""
        if not self.output.comments or self.engine == "sail":
            return schema
        texts = COLUMNS[self.name]
        return StructType(
            [
                StructField(f.name, f.dataType, f.nullable, {"comment": texts[f.name]} if f.name in texts else None)
                for f in schema
            ]
        )

    def options(self) -> dict[str, str]:
        """Returns the writer's options, by which Delta sets the properties of a table that it creates."""
        return {key: value for key, value in self.output.properties.items() if key.startswith("delta.")}

    def finish(self, spark: SparkSession, ref: TableRef, schema: StructType) -> None:
        """Gives the table what its creation could not: each statement may fail, and is then skipped and logged."""
        skipped: dict[str, str] = {}
        for what, statement in self._statements(ref, schema):
            if self.engine == "sail":
                skipped[what] = "the embedded engine cannot"
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

    def _statements(self, ref: TableRef, schema: StructType) -> Iterable[tuple[str, str]]:
        table = ref.sql
        if self.output.comments:
            yield "comments", f"COMMENT ON TABLE {table} IS {_text(TABLES[self.name])}"
        own = {key: value for key, value in self.output.properties.items() if not key.startswith("delta.")}
        if own:
            yield "properties", f"ALTER TABLE {table} SET TBLPROPERTIES ({_pairs(own)})"
        keys = [quoted(name) for name in self.output.cluster_by if name in schema.fieldNames()]
        if keys:
            yield "cluster_by", f"ALTER TABLE {table} CLUSTER BY ({', '.join(keys)})"
        if self.output.tags:
            yield "tags", f"ALTER TABLE {table} SET TAGS ({_pairs(self.output.tags)})"
        for column, tags in self.output.column_tags.items():
            if column in schema.fieldNames():
                yield "column_tags", f"ALTER TABLE {table} ALTER COLUMN {quoted(column)} SET TAGS ({_pairs(tags)})"


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


def _pairs(pairs: Mapping[str, str]) -> str:
    return ", ".join(f"{_text(key)} = {_text(value)}" for key, value in pairs.items())


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
