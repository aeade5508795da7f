"""The only reads, writes and merges of tables: Delta by path or catalogue name, and plain Parquet as input."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from faceattr_udf.errors import EngineError, TableNotFoundError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.locations import TableRef, holds_data, local_path, quoted
from faceattr_udf.spark.retries import commit
from faceattr_udf.spark.schemas import check_columns


class Tables:
    """Table operations on one engine."""

    def __init__(self, spark: SparkSession, engine: str) -> None:
        self.spark = spark
        self._engine = engine

    def check_writable(self, ref: TableRef) -> None:
        """Checks that the engine can merge into a Delta table at that place.

        Raises:
            EngineError: The embedded engine percent-encodes the path when it writes and does not when it merges.
        """
        path = local_path(ref.location)
        if self._engine == "sail" and ref.format == "delta" and path is not None and quote(str(path)) != str(path):
            msg = (
                f"engine sail cannot keep a Delta table at {ref} because of a character that URLs encode (such as a "
                "blank); choose a plain folder name or set engine.name=spark"
            )
            raise EngineError(msg)

    def find(self, ref: TableRef) -> DataFrame | None:
        """Returns a table, or None where there is none.

        Raises:
            EngineError: The table is there but the engine cannot read it.
        """
        path = local_path(ref.location) if ref.format != "table" else None
        if path is not None and not ((path / "_delta_log").exists() if ref.format == "delta" else holds_data(path)):
            return None
        if ref.format == "delta":
            self.check_writable(ref)
        try:
            with self._delta_known():
                frame = (
                    self.spark.read.table(ref.location)
                    if ref.format == "table"
                    else self.spark.read.format(ref.format).load(ref.location)
                )
                return frame if frame.columns else None
        except AnalysisException as error:
            text = str(error).lower()
            if any(
                hint in text
                for hint in (
                    "not found",
                    "not_found",
                    "does not exist",
                    "no commit files",
                    "missing_delta",
                    "path_not",
                    "is not a delta table",
                )
            ):
                return None
            msg = f"table {ref} cannot be read ({first_line(error)}); check input.format and that it is a whole table"
            raise EngineError(msg) from error

    def read(self, ref: TableRef) -> DataFrame:
        """Returns a table that must exist.

        Raises:
            TableNotFoundError: It does not.
            EngineError: The engine cannot read it.
        """
        frame = self.find(ref)
        if frame is None:
            msg = f"table {ref} does not exist; name an existing one, or set input.format if it is not {ref.format}"
            raise TableNotFoundError(msg)
        return frame

    def check(self, ref: TableRef, schema: StructType) -> bool:
        """Checks an output table before anything is written to it.

        Returns:
            Whether it exists.

        Raises:
            SchemaError: It exists with other columns.
            EngineError: The engine cannot write there.
        """
        self.check_writable(ref)
        frame = self.find(ref)
        if frame is not None:
            check_columns(str(ref), frame.schema, schema)
        return frame is not None

    def ensure(self, ref: TableRef, schema: StructType) -> None:
        """Creates a Delta table unless it exists with exactly these columns.

        Raises:
            SchemaError: It exists with other columns.
            EngineError: The engine has not been given Delta.
        """
        if not self.check(ref, schema):
            self._write(self.spark.createDataFrame([], schema), ref)

    def rewrite(self, ref: TableRef, frame: DataFrame) -> None:
        """Replaces all rows and the columns of a table in one commit; `frame` may be computed from the table."""
        writer = frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        save = writer.saveAsTable if ref.format == "table" else writer.save
        save(ref.location)

    def append(self, ref: TableRef, frame: DataFrame) -> None:
        """Appends rows to a table; the columns must be the table's."""
        check_columns(str(ref), frame.schema, self.read(ref).schema)
        self._write(frame, ref)

    def replace(self, ref: TableRef, frame: DataFrame, key: str, values: Sequence[str]) -> None:
        """Replaces all rows with certain keys without a join, because the rows may be large.

        It is one commit, except in a catalogue table of the embedded engine.

        Args:
            ref: The table.
            frame: Rows with the table's columns and with keys of `values` only.
            key: A column of text.
            values: The keys whose rows go.
        """
        if ref.format == "table" and self._engine == "sail":
            # Its saveAsTable replaces the whole table, whatever the condition.
            self.delete(ref, self.spark.createDataFrame([(value,) for value in values], f"{quoted(key)} string"), key)
            self.append(ref, frame)
            return
        # The embedded engine would take rows away for which a condition is null.
        condition = f"{quoted(key)} IS NOT NULL AND {quoted(key)} IN ({', '.join(map(literal, values))})"
        self._write(frame, ref, condition)

    def _write(self, frame: DataFrame, ref: TableRef, replaced: str | None = None) -> None:
        writer = frame.write.format("delta").mode("overwrite" if replaced else "append")
        if replaced:
            writer = writer.option("replaceWhere", replaced)
        save = writer.saveAsTable if ref.format == "table" else writer.save
        with self._delta_known():
            commit(ref, lambda: save(ref.location))

    @contextmanager
    def _delta_known(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # py4j and the Connect client raise unrelated types
            if "DATA_SOURCE_NOT_FOUND" not in str(error):
                raise
            msg = (
                f"engine {self._engine} does not know Delta; give Spark its jar at its start: "
                "spark-submit --jars, as in conf/nightly.toml"
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
            source: Rows with the table's columns, at most one per key, and the flag.
            keys: The columns that tell rows apart.
            delete_flag: A boolean column of `source`: where true, the row with that key is deleted.
            between: (column, lowest, highest) of the source's keys, so that files without them are skipped.
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
            commit(ref, lambda: self.spark.sql(statement).collect())
        finally:
            self.spark.catalog.dropTempView(view)


def literal(text: str) -> str:
    r"""Returns a text as a SQL literal.

    >>> print(literal("it's"))
    'it\'s'
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
