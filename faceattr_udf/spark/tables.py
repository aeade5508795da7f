"""Reads, writes and merges of tables: Delta tables by path or catalog name, and Parquet as input.

No other module reads or writes tables.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final
from urllib.parse import quote

import structlog
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql.types import StructType

from faceattr_udf.errors import EngineError, FaceattrError, TableNotFoundError
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.ddl import columns_sql, text_sql
from faceattr_udf.spark.delta_features import DeltaFeatures, add_local_times
from faceattr_udf.spark.engine_errors import is_conflict, is_engine_error, is_transient, reason
from faceattr_udf.spark.id_bounds import among, within
from faceattr_udf.spark.locations import TableRef, holds_data, local_path
from faceattr_udf.spark.parquet_input import InputFrames, Wanted, open_parquet
from faceattr_udf.spark.retries import commit
from faceattr_udf.spark.schemas import check_columns
from faceattr_udf.spark.table_details import TableDetails, present_cluster_keys

_NOT_FOUND: Final = re.compile(
    r"(table|view|database|schema|namespace|catalog)\S* (or view )?not[ _]found|_not_found|does not exist"
    r"|no commit files|missing_delta|path_not|is not a delta table|unable_to_infer_schema",
    re.IGNORECASE,
)
_DELTA_UNKNOWN: Final = re.compile("DATA_SOURCE_NOT_FOUND|ClassNotFoundException: .*DeltaCatalog")

_APPENDS: Final = "faceattr_udf"
"""The name in Delta's log under which `Tables.append_once` numbers its commits."""

log = structlog.get_logger(__name__)


def is_not_found(error: BaseException) -> bool:
    """Checks whether an engine reports that a table does not exist; engines have no common error class for it.

    >>> is_not_found(RuntimeError("[TABLE_OR_VIEW_NOT_FOUND] ...")), is_not_found(RuntimeError("bad footer"))
    (True, False)
    """
    return _NOT_FOUND.search(str(error)) is not None


class Tables:
    """Table operations on one engine."""

    def __init__(self, spark: SparkSession, engine: str, before_commit: Callable[[], object] = lambda: None) -> None:
        """Binds the operations to a session.

        Args:
            spark: A session.
            engine: The name of its engine.
            before_commit: Called before every attempt of a commit; may raise to prevent it.
        """
        self.spark = spark
        self._engine = engine
        self._before_commit = before_commit

    def check_writable(self, ref: TableRef) -> None:
        """Checks that the engine takes the location of a Delta table for what it says.

        Raises:
            EngineError: The path needs URL encoding, and the engine is the embedded one: it encodes the path when it
                writes, but not when it merges. Or the path holds `${`, which Spark would replace in SQL.
        """
        if ref.format != "delta":
            return
        path = local_path(ref.location)
        if self._engine == "sail" and path is not None and quote(str(path)) != str(path):
            msg = (
                f"engine sail cannot use a Delta table at {ref}, because its path has a space or another character "
                "that URLs encode; choose another folder name or set engine.name=spark"
            )
            raise EngineError(msg)
        if self._engine != "sail" and "${" in ref.location and self._substitutes_variables():
            msg = (
                f"Spark would replace the variable in {ref}; choose another folder name, or set "
                "spark.sql.variable.substitute to false in your session"
            )
            raise EngineError(msg)

    def _substitutes_variables(self) -> bool:
        return str(self.spark.conf.get("spark.sql.variable.substitute", "true")).lower() != "false"

    def find(self, ref: TableRef) -> DataFrame | None:
        """Returns a table, or None if it does not exist.

        Raises:
            EngineError: The table exists, and the engine will not be able to read it.
        """
        path = local_path(ref.location) if ref.format != "table" else None
        if path is not None and not ((path / "_delta_log").exists() if ref.format == "delta" else holds_data(path)):
            return None
        self.check_writable(ref)
        try:
            with self._explain_missing_delta():
                frame = self._open(ref)
                return frame if frame.columns else None
        except Exception as error:  # py4j and the Connect client raise unrelated types
            if not is_engine_error(error) or is_transient(error):
                raise
            if is_not_found(error):
                return None
            msg = f"table {ref} cannot be read ({reason(error)}); check input.format and that the table is complete"
            raise EngineError(msg) from error

    def _open(self, ref: TableRef) -> DataFrame:
        if ref.format == "table":
            return self.spark.read.table(ref.sql)
        path = local_path(ref.location)
        if ref.format == "parquet" and path is not None and self._engine == "sail":
            return self.spark.read.parquet(path.as_uri())  # in a plain path it expands patterns
        return self.spark.read.format(ref.format).option("__globPaths__", "false").load(ref.location)

    def read(self, ref: TableRef) -> DataFrame:
        """Returns a table that must exist.

        Raises:
            TableNotFoundError: The table does not exist.
            EngineError: The engine cannot read it.
        """
        frame = self.find(ref)
        if frame is None:
            msg = f"table {ref} does not exist; name an existing table, or set input.format if it is not {ref.format}"
            raise TableNotFoundError(msg)
        return frame

    def read_images(self, ref: TableRef, wanted: Wanted) -> InputFrames:
        """Returns an images table that must exist; of plain Parquet only the wanted columns.

        Raises:
            TableNotFoundError: The table does not exist.
            SchemaError: A Parquet file is damaged, or a wanted column has a type that no table can keep.
            EngineError: The engine cannot read it.
        """
        found = open_parquet(self.spark, self._engine, ref.location, wanted) if ref.format == "parquet" else None
        return found or InputFrames(self.read(ref))

    def check(self, ref: TableRef, schema: StructType) -> bool:
        """Checks an output table before anything is written to it.

        Returns:
            Whether it exists.

        Raises:
            SchemaError: The table exists with other columns.
            EngineError: The engine cannot write there.
        """
        self.check_writable(ref)
        frame = self.find(ref)
        if frame is not None:
            check_columns(str(ref), frame.schema, schema)
        return frame is not None

    def ensure(self, ref: TableRef, schema: StructType, details: TableDetails | None = None) -> None:
        """Creates a Delta table if it does not exist.

        Args:
            ref: The table.
            schema: Its columns.
            details: What a new table carries beside them.

        Raises:
            SchemaError: The table exists with other columns.
            EngineError: The engine does not have Delta.
        """
        if self.check(ref, schema):
            return
        try:
            left_out = self._create(ref, schema, details)
        except Exception as error:  # as in `find`
            if isinstance(error, FaceattrError) or is_conflict(error) or is_transient(error):
                raise
            raise EngineError(self._cannot_create(ref, error)) from error
        if details is not None:
            details.finish(self.spark, ref, schema, left_out)

    def ensure_commented(self, ref: TableRef, schema: StructType, comment: str, comments: Mapping[str, str]) -> None:
        """Creates a flat Delta table with comments that every reader sees, if it does not exist.

        The embedded engine writes comments only for a table in its catalog, which it forgets: the table is created
        there under a passing name, and dropping that name leaves the files.

        Args:
            ref: The table, at a path or URI.
            schema: Its columns.
            comment: The table's comment.
            comments: Column -> comment.

        Raises:
            SchemaError: The table exists with other columns.
            EngineError: The engine does not have Delta.
        """
        if self.check(ref, schema):
            return
        columns = f"({columns_sql(schema, comments)}) USING delta"
        try:
            if self._engine == "sail":
                name = quoted(f"faceattr_{uuid.uuid4().hex}")
                create = f"CREATE TABLE {name} {columns} LOCATION {text_sql(ref.location)} COMMENT {text_sql(comment)}"
                commit(ref, partial(self._execute, create), self._before_commit)
                self._execute(f"DROP TABLE {name}")
            else:
                create = f"CREATE TABLE IF NOT EXISTS {ref.sql} {columns} COMMENT {text_sql(comment)}"
                commit(ref, partial(self._execute, create), self._before_commit)
        except PySparkException as error:
            if is_conflict(error) or is_transient(error):
                raise
            raise EngineError(self._cannot_create(ref, error)) from error

    def _create(self, ref: TableRef, schema: StructType, details: TableDetails | None) -> tuple[str, ...]:
        """Creates a table with as many of its details as the engine takes, and returns the others."""
        for statement, left_out in details.creations(ref, schema) if details else ():
            try:
                commit(ref, partial(self._execute, statement), self._before_commit)
            except PySparkException as error:
                if is_conflict(error) or is_transient(error):
                    raise
                log.info("table_not_created", table=str(ref), left_out=left_out, reason=reason(error))
            else:
                return left_out
        empty = self.spark.createDataFrame([], schema)
        self._write(empty, ref, options=details.options() if details else None)
        return details.beside(schema) if details else ()

    def _execute(self, statement: str) -> None:
        with self._explain_missing_delta():
            self.spark.sql(statement).collect()

    @staticmethod
    def _cannot_create(ref: TableRef, error: Exception) -> str:
        if ref.format == "table":
            place = (
                "create its catalog and schema first; if a folder is meant, write a path with a slash, "
                f"such as ./{ref.location}"
            )
        else:
            place = "name a folder that can be written"
        return f"table {ref} cannot be created ({reason(error)}); {place}"

    def rewrite(self, ref: TableRef, frame: DataFrame) -> None:
        """Replaces all rows and the columns of a table in one commit; `frame` may be computed from the table.

        Delta drops the table's cluster keys in such a commit. They are set again in another; a kill in between leaves a
        complete table without them.
        """
        clustered = self._cluster_keys(ref)
        writer = frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        commit(ref, lambda: self._save(writer, ref), self._before_commit)
        if clustered:
            keys = ", ".join(map(quoted, clustered))
            commit(ref, partial(self._execute, f"ALTER TABLE {ref.sql} CLUSTER BY ({keys})"), self._before_commit)

    def _cluster_keys(self, ref: TableRef) -> list[str]:
        if "clustering" not in self.features(ref).writer_features:
            return []
        detail = self.spark.sql(f"DESCRIBE DETAIL {ref.sql}").first()
        return present_cluster_keys(detail) if detail else []

    def features(self, ref: TableRef) -> DeltaFeatures:
        """Returns the features of an output table; none of a catalog table on the embedded engine."""
        if ref.format == "table" and self._engine != "sail":
            return DeltaFeatures.of_catalog(self.spark, ref)
        return DeltaFeatures.read(ref)

    def allow_local_times(self, ref: TableRef) -> None:
        """Lets an existing table have columns of local times, for which it needs a feature.

        Raises:
            EngineError: The engine is the embedded one, which cannot add the feature, and nothing else can.
        """
        if "timestampNtz" in self.features(ref).writer_features:
            return
        if self._engine == "sail":
            commit(ref, lambda: add_local_times(ref), self._before_commit)
            return
        alter = f"ALTER TABLE {ref.sql} SET TBLPROPERTIES ('delta.feature.timestampNtz' = 'supported')"
        commit(ref, lambda: self.spark.sql(alter).collect(), self._before_commit)

    def add_columns(self, ref: TableRef, schema: StructType) -> None:
        """Adds nullable columns to a table in one commit that rewrites no file.

        Args:
            ref: The table.
            schema: Its columns and the new ones.
        """
        writer = self.spark.createDataFrame([], schema).write.format("delta").mode("append")
        commit(ref, lambda: self._save(writer.option("mergeSchema", "true"), ref), self._before_commit)

    def append(self, ref: TableRef, frame: DataFrame) -> None:
        """Appends rows; they must have the table's columns."""
        check_columns(str(ref), frame.schema, self.read(ref).schema)
        self._write(frame, ref)

    @property
    def appends_once(self) -> bool:
        """Whether the engine has `append_once`; the embedded engine does not recognize a repeated append."""
        return self._engine != "sail"

    def next_append(self, ref: TableRef) -> int:
        """Returns a number that no append to the table has had: its next version."""
        row = self.spark.sql(f"DESCRIBE HISTORY {ref.sql} LIMIT 1").first()
        return int(row["version"]) + 1 if row else 0

    def append_once(self, ref: TableRef, frame: DataFrame, number: int) -> None:
        """Appends rows whose keys the table does not have, in one commit, unless an append with this number was made.

        It reads nothing of the table, where `merge` looks for the keys. Yet it can be repeated after an error that left
        open whether the commit was made, and of two writers that append at the same time the second gets a conflict as
        with `merge`: all appends are transactions of one application, which Delta puts in order.

        Args:
            ref: The table.
            frame: The new rows, with the table's columns.
            number: From `next_append`, before the first attempt.
        """
        self._write(frame, ref, options={"txnAppId": _APPENDS, "txnVersion": str(number)})

    def replace(self, ref: TableRef, frame: DataFrame, key: str, values: Sequence[str]) -> None:
        """Replaces all rows with certain keys, without a join because the rows may be large.

        It is one commit, except for a catalog table on the embedded engine.

        Args:
            ref: The table.
            frame: The new rows, with the table's columns and only keys of `values`.
            key: A string column.
            values: The keys whose rows are removed.
        """
        if ref.format == "table" and self._engine == "sail":
            # Its saveAsTable ignores the condition and replaces the whole table.
            self.delete(ref, self.spark.createDataFrame([(value,) for value in values], f"{quoted(key)} string"), key)
            self.append(ref, frame)
            return
        self._write(frame, ref, among(key, values))

    def _write(
        self, frame: DataFrame, ref: TableRef, replaced: str | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        writer = frame.write.format("delta").mode("overwrite" if replaced else "append").options(**(options or {}))
        if replaced:
            writer = writer.option("replaceWhere", replaced)
        with self._explain_missing_delta():
            commit(ref, lambda: self._save(writer, ref), self._before_commit)

    @staticmethod
    def _save(writer: DataFrameWriter, ref: TableRef) -> None:
        if ref.format == "table":
            writer.saveAsTable(ref.sql)
        else:
            writer.save(ref.location)

    @contextmanager
    def _explain_missing_delta(self) -> Iterator[None]:
        """Turns the error of an engine without Delta into an `EngineError`."""
        try:
            yield
        except Exception as error:  # py4j and the Connect client raise unrelated types
            if not _DELTA_UNKNOWN.search(str(error)):
                raise
            msg = (
                f"engine {self._engine} does not have Delta; pass Delta's jar to spark-submit with --jars, as "
                "conf/nightly.toml shows"
            )
            raise EngineError(msg) from error

    def merge(
        self,
        ref: TableRef,
        source: DataFrame,
        keys: Sequence[str],
        delete_flag: str | None = None,
        between: tuple[str, str, str] | None = None,
    ) -> None:
        """Replaces, inserts and deletes rows in one commit.

        Args:
            ref: The table.
            source: Rows with the table's columns and the flag, at most one row per key.
            keys: The columns that identify a row.
            delete_flag: A boolean column of `source`; where it is true, the row with this key is deleted.
            between: A key column and its lowest and highest value in `source`; lets the engine skip most other files.
        """
        columns = [quoted(name) for name in source.columns if name != delete_flag]
        on = [f"t.{quoted(key)} = s.{quoted(key)}" for key in keys]
        if between is not None:
            on += within(f"t.{quoted(between[0])}", between[1], between[2])
        flag = f"s.{quoted(delete_flag)}" if delete_flag else None
        assignments = ", ".join(f"t.{column} = s.{column}" for column in columns)
        row = f"({', '.join(columns)}) VALUES ({', '.join(f's.{column}' for column in columns)})"
        actions = [
            f"WHEN MATCHED AND {flag} THEN DELETE" if flag else "",
            f"WHEN MATCHED THEN UPDATE SET {assignments}",
            f"WHEN NOT MATCHED {f'AND NOT {flag}' if flag else ''} THEN INSERT {row}",
        ]
        self._merge(ref, source, " AND ".join(on), " ".join(actions))

    def delete(self, ref: TableRef, source: DataFrame, key: str) -> None:
        """Deletes the rows whose key is in `source`, in one commit."""
        same = f"t.{quoted(key)} = s.{quoted(key)}"
        self._merge(ref, source.select(key).distinct(), same, "WHEN MATCHED THEN DELETE")

    def _merge(self, ref: TableRef, source: DataFrame, on: str, actions: str) -> None:
        view = f"faceattr_merge_{uuid.uuid4().hex}"
        source.createOrReplaceTempView(view)
        try:
            statement = f"MERGE INTO {ref.sql} t USING {view} s ON {on} {actions}"  # quoted
            commit(ref, lambda: self.spark.sql(statement).collect(), self._before_commit)
        finally:
            self.spark.catalog.dropTempView(view)
