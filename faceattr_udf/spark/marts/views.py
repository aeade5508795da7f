"""Views over the marts and output tables in a schema of a catalog, with the comments of all columns."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Final

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, SchemaError, TableNotFoundError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.catalog_names import quoted, quoted_name, split_name
from faceattr_udf.spark.ddl import pairs_sql, text_sql
from faceattr_udf.spark.descriptions import COLUMNS, TABLES
from faceattr_udf.spark.engine_errors import is_transient
from faceattr_udf.spark.locations import Outputs, TableRef
from faceattr_udf.spark.marts.layout import MARTS, mart_refs
from faceattr_udf.spark.tables import Tables

_SOURCE: Final = "faceattr.source"
_DEFINITION: Final = "faceattr.definition"
_MAX_SCHEMA_PARTS: Final = 2


def check_view_schema(spark: SparkSession, config: Config) -> None:
    """Checks that the schema for views exists, where `marts.views` names one.

    Raises:
        ConfigError: The name is no schema's, or the engine has no views that read Delta tables.
        TableNotFoundError: There is no such schema.
    """
    name = config.marts.views
    if not name:
        return
    if config.engine.name == "sail":
        msg = (
            f"marts.views = {name!r}, but engine sail cannot read Delta tables through views of a catalog; set "
            'engine.name=spark, or leave it "" and use register_views (docs/marts.md)'
        )
        raise ConfigError(msg)
    parts = split_name(name)
    if parts is None or len(parts) > _MAX_SCHEMA_PARTS:
        msg = f'marts.views = {name!r} is not the name of a schema; expected "schema" or "catalog.schema"'
        raise ConfigError(msg)
    try:
        exists = spark.catalog.databaseExists(quoted_name(name))
    except PySparkException as error:
        if is_transient(error):
            raise
        msg = f"marts.views: schema {name} cannot be looked up ({first_line(error)}); check the catalog's name"
        raise TableNotFoundError(msg) from error
    if not exists:
        msg = f"marts.views: schema {name} does not exist; create it with CREATE SCHEMA {quoted_name(name)}"
        raise TableNotFoundError(msg)


def create_views(tables: Tables, config: Config, outputs: Outputs) -> list[str]:
    """Gives the marts, and output tables that are not in a catalog themselves, views in the schema `marts.views`.

    A view that is there already is replaced only if columns or comments have changed, so grants on it stay.

    Args:
        tables: Reads and writes tables.
        config: The configuration; `check_view_schema` has passed.
        outputs: The output tables.

    Returns:
        The names of the views that were created or replaced.

    Raises:
        SchemaError: The schema has a table or view of that name which reads something else.
    """
    schema = config.marts.views
    return [name for name, view in _views(tables, outputs) if view.ensure(tables.spark, f"{schema}.{name}")]


def _views(tables: Tables, outputs: Outputs) -> Iterator[tuple[str, "_View"]]:
    for name, ref in outputs.tables.items():
        found = None if ref.format == "table" else tables.find(ref)
        if found is not None:
            yield name, _View(ref, found.schema, TABLES[name], COLUMNS[name])
    for name, ref in mart_refs(outputs.folder).items():
        yield name, _View(ref, MARTS[name].schema, MARTS[name].comment, MARTS[name].comments)


class _View:
    """A view that selects all columns of one table."""

    def __init__(self, ref: TableRef, schema: StructType, comment: str, comments: Mapping[str, str]) -> None:
        names = schema.fieldNames()
        columns = ", ".join(
            quoted(name) + (f" COMMENT {text_sql(comments[name])}" if name in comments else "") for name in names
        )
        self._ref = ref
        self._query = f"SELECT {', '.join(map(quoted, names))} FROM {ref.sql}"  # noqa: S608 - quoted
        self._head = f"({columns}) COMMENT {text_sql(comment)}"

    def ensure(self, spark: SparkSession, name: str) -> bool:
        """Creates or replaces the view if it differs, and says whether it did."""
        definition = sha256(f"{self._head} {self._query}".encode()).hexdigest()
        view = quoted_name(name)
        if spark.catalog.tableExists(view):
            held = {row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {view}").collect()}
            if held.get(_SOURCE) != self._ref.location:
                msg = (
                    f"marts.views: {name} exists and is not a view of {self._ref}; name another schema, or drop it "
                    f"with DROP VIEW {view}"
                )
                raise SchemaError(msg)
            if held.get(_DEFINITION) == definition:
                return False
        told = pairs_sql({_SOURCE: self._ref.location, _DEFINITION: definition})
        spark.sql(f"CREATE OR REPLACE VIEW {view} {self._head} TBLPROPERTIES ({told}) AS {self._query}").collect()
        return True
