"""Reads, writes and merges of tables: Delta tables by path or catalog name, and Parquet as input.

No other module reads or writes tables.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from faceattr_udf.errors import EngineError, TableNotFoundError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.locations import TableRef, holds_data, local_path, quoted
from faceattr_udf.spark.retries import commit
from faceattr_udf.spark.schemas import check_columns
from faceattr_udf.spark.table_details import TableDetails

_NOT_FOUND: Final = re.compile(
    r"not found|not_found|does not exist|no commit files|missing_delta|path_not|is not a delta table", re.IGNORECASE
)
_DELTA_UNKNOWN: Final = "DATA_SOURCE_NOT_FOUND"


def is_not_found(error: AnalysisException) -> bool:
    """Checks whether an engine reports that a table does not exist; engines have no common error class for it.

    >>> is_not_found(AnalysisException("[TABLE_OR_VIEW_NOT_FOUND] ...")), is_not_found(AnalysisException("bad footer"))
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
        """Checks that the engine can merge into a Delta table at this location.

        Raises:
            EngineError: The path needs URL encoding, and the engine is the embedded one: it encodes the path when it
                writes, but not when it merges.
        """
        path = local_path(ref.location)
        if self._engine == "sail" and ref.format == "delta" and path is not None and quote(str(path)) != str(path):
            msg = (
                f"engine sail cannot use a Delta table at {ref}, because its path has a space or another character "
                "that URLs encode; choose another folder name or set engine.name=spark"
            )
            raise EngineError(msg)

    def find(self, ref: TableRef) -> DataFrame | None:
        """Returns a table, or None if it does not exist.

        Raises:
            EngineError: The table exists but the engine cannot read it.
        """
        path = local_path(ref.location) if ref.format != "table" else None
        if path is not None and not ((path / "_delta_log").exists() if ref.format == "delta" else holds_data(path)):
            return None
        if ref.format == "delta":
            self.check_writable(ref)
        try:
            with self._explain_missing_delta():
                frame = (
                    self.spark.read.table(ref.location)
                    if ref.format == "table"
                    else self.spark.read.format(ref.format).load(ref.location)
                )
                return frame if frame.columns else None
        except AnalysisException as error:
            if is_not_found(error):
                return None
            msg = f"table {ref} cannot be read ({first_line(error)}); check input.format and that the table is complete"
            raise EngineError(msg) from error

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
        if details is None:
            self._write(self.spark.createDataFrame([], schema), ref)
            return
        self._write(self.spark.createDataFrame([], details.described(schema)), ref, options=details.options())
        details.finish(self.spark, ref, schema)

    def rewrite(self, ref: TableRef, frame: DataFrame) -> None:
        """Replaces all rows and the columns of a table in one commit; `frame` may be computed from the table."""
        writer = frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        save = writer.saveAsTable if ref.format == "table" else writer.save
        save(ref.location)

    def append(self, ref: TableRef, frame: DataFrame) -> None:
        """Appends rows; they must have the table's columns."""
        check_columns(str(ref), frame.schema, self.read(ref).schema)
        self._write(frame, ref)

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
        # The embedded engine would also remove rows for which the condition is NULL.
        condition = f"{quoted(key)} IS NOT NULL AND {quoted(key)} IN ({', '.join(map(literal, values))})"
        self._write(frame, ref, condition)

    def _write(
        self, frame: DataFrame, ref: TableRef, replaced: str | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        writer = frame.write.format("delta").mode("overwrite" if replaced else "append").options(**(options or {}))
        if replaced:
            writer = writer.option("replaceWhere", replaced)
        save = writer.saveAsTable if ref.format == "table" else writer.save
        with self._explain_missing_delta():
            commit(ref, lambda: save(ref.location), self._before_commit)

    @contextmanager
    def _explain_missing_delta(self) -> Iterator[None]:
        """Turns the error of an engine without Delta into an `EngineError`."""
        try:
            yield
        except Exception as error:  # py4j and the Connect client raise unrelated types
            if _DELTA_UNKNOWN not in str(error):
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
            between: A key column and its lowest and highest value in `source`; lets the engine skip other files.
        """
        columns = [quoted(name) for name in source.columns if name != delete_flag]
        on = [f"t.{quoted(key)} = s.{quoted(key)}" for key in keys]
        if between is not None:
            column = f"t.{quoted(between[0])}"
            on += [f"{column} >= {literal(between[1])}", f"{column} <= {literal(between[2])}"]
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


def literal(text: str) -> str:
    r"""Returns a string as a SQL literal.

    >>> print(literal("it's"))
    'it\'s'
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
