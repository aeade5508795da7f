"""Compaction and vacuum of one Delta table: with Spark's SQL, or with delta-rs on the embedded engine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.delta_features import DeltaFeatures
from faceattr_udf.spark.engine_errors import is_conflict, reason
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.retries import commit
from faceattr_udf.spark.table_details import present_cluster_keys

if TYPE_CHECKING:
    from deltalake import DeltaTable


ERASED_AT: Final = "faceattr.erased_at"
"""The property of a table that tells when rows were last erased from all its files."""

_INTERVAL: Final = "delta.checkpointInterval"


@dataclass(frozen=True)
class CurrentVersion:
    """The current version of a table.

    Attributes:
        location: The path or URI of the table's folder.
        files: The number of its data files, which a query reads.
        bytes: Their total size.
    """

    location: str
    files: int
    bytes: int


class DeltaOperations(Protocol):
    """Operations on Delta tables beside reading and writing."""

    def current_version(self, ref: TableRef) -> CurrentVersion:
        """Returns the size of the table's current version."""
        ...

    def compact(self, ref: TableRef, target_bytes: int, sort_by: str | None = None) -> None:
        """Joins small files into files of about `target_bytes`, in one commit that changes no row.

        Args:
            ref: The table.
            target_bytes: The size of the joined files.
            sort_by: The column by which queries and merges look for rows. Where the engine can, each file then holds a
                range of its values, unless the table has cluster keys of its own.
        """
        ...

    def vacuum(self, ref: TableRef, hours: int) -> None:
        """Deletes the files that no version of the last `hours` needs, including those of killed writes.

        Before that, rows that deletion vectors mark are taken out of the current files, which are written without them.
        """
        ...

    def data_files(self, ref: TableRef) -> list[str]:
        """Returns the data files of the current version: relative to the table's folder, or absolute."""
        ...

    def checkpoint(self, ref: TableRef, erased_at: str) -> int:
        """Commits a property that tells of an erasure, and writes a checkpoint of that version.

        The commit names no file and has no statistics, and with the checkpoint no reader needs an earlier one.

        Args:
            ref: The table.
            erased_at: The value of the property.

        Returns:
            The version.
        """
        ...


def delta_operations(spark: SparkSession, engine: str) -> DeltaOperations:
    """Returns the operations of an engine.

    Raises:
        EngineError: The engine is the embedded one and the package deltalake is not installed.
    """
    return _DeltaRsOperations() if engine == "sail" else _SqlOperations(spark)


class _SqlOperations:
    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def current_version(self, ref: TableRef) -> CurrentVersion:
        (detail,) = self._sql("DESCRIBE DETAIL", ref)
        return CurrentVersion(str(detail["location"]), int(detail["numFiles"]), int(detail["sizeInBytes"]))

    def compact(self, ref: TableRef, target_bytes: int, sort_by: str | None = None) -> None:
        (detail,) = self._sql("DESCRIBE DETAIL", ref)
        clustered = bool(present_cluster_keys(detail))
        if (clustered or sort_by) and not _has_small_files(
            int(detail["numFiles"]), detail["sizeInBytes"], target_bytes
        ):
            return  # Delta sorts the whole table each time, whether or not it is sorted
        order = [] if clustered or not sort_by else [f"ZORDER BY ({quoted(sort_by)})"]
        size = str(target_bytes)
        names = ("spark.databricks.delta.optimize.minFileSize", "spark.databricks.delta.optimize.maxFileSize")
        with self._settings(dict.fromkeys(names, size)):
            commit(ref, lambda: self._sql("OPTIMIZE", ref, *order))

    def vacuum(self, ref: TableRef, hours: int) -> None:
        (detail,) = self._sql("DESCRIBE DETAIL", ref)
        if "deletionVectors" in (detail["tableFeatures"] or ()):
            # Of a clustered table REORG purges nothing: seen with Delta 4.4.0.
            purge = ("OPTIMIZE", ref, "FULL") if present_cluster_keys(detail) else ("REORG TABLE", ref, "APPLY (PURGE)")
            commit(ref, lambda: self._sql(*purge))
        # Delta refuses less than a week unless this check is off; `maintain` has checks of its own.
        with self._settings({"spark.databricks.delta.retentionDurationCheck.enabled": "false"}):
            self._sql("VACUUM", ref, f"RETAIN {hours} HOURS")

    def data_files(self, ref: TableRef) -> list[str]:
        return list(self._spark.read.table(ref.sql).inputFiles())

    def checkpoint(self, ref: TableRef, erased_at: str) -> int:
        (detail,) = self._sql("DESCRIBE DETAIL", ref)
        interval = dict(detail["properties"] or {}).get(_INTERVAL, "1")
        wanted = f"('{_INTERVAL}' = '1', '{ERASED_AT}' = '{erased_at}')"
        commit(ref, lambda: self._sql("ALTER TABLE", ref, "SET TBLPROPERTIES", wanted))
        (latest,) = self._sql("DESCRIBE HISTORY", ref, "LIMIT 1")
        # A killed erasure leaves the interval of 1, which nobody else sets: every commit would write a checkpoint.
        again = (
            f"UNSET TBLPROPERTIES IF EXISTS ('{_INTERVAL}')"
            if interval == "1"
            else f"SET TBLPROPERTIES ('{_INTERVAL}' = '{interval}')"
        )
        commit(ref, lambda: self._sql("ALTER TABLE", ref, again))
        return int(latest["version"])

    def _sql(self, verb: str, ref: TableRef, *rest: str) -> list[Row]:
        try:
            return self._spark.sql(" ".join([verb, ref.sql, *rest])).collect()
        except PySparkException as error:
            if is_conflict(error):
                raise
            msg = f"{verb} of table {ref} failed ({reason(error)}); use an engine that has Delta Lake's SQL"
            raise EngineError(msg) from error

    @contextmanager
    def _settings(self, values: Mapping[str, str]) -> Iterator[None]:
        conf = self._spark.conf
        before = {key: conf.get(key, None) for key in values}
        try:
            for key, value in values.items():
                conf.set(key, value)
            yield
        finally:
            for key, earlier in before.items():
                if earlier is None:
                    conf.unset(key)
                else:
                    conf.set(key, earlier)


def _has_small_files(files: int, size: int, target_bytes: int) -> bool:
    """Checks whether a table has more files than its size needs; a few more are not worth sorting a large table again.

    >>> _has_small_files(1, 10, 100), _has_small_files(2, 10, 100), _has_small_files(12, 1000, 100)
    (False, True, False)
    """
    needed = max(1, -(-size // target_bytes))
    return files > needed + needed // 4


class _DeltaRsOperations:
    def __init__(self) -> None:
        try:
            import deltalake  # noqa: PLC0415
        except ImportError as error:
            msg = (
                f"engine sail has neither OPTIMIZE nor VACUUM, and the package deltalake is not installed ({error}); "
                "install the extra faceattr_udf[maintain] or set engine.name=spark"
            )
            raise EngineError(msg) from error
        self._open = deltalake.DeltaTable

    def current_version(self, ref: TableRef) -> CurrentVersion:
        column = pa.table(self._table(ref).get_add_actions()).column("size_bytes")
        sizes = [int(size or 0) for size in column.to_pylist()]
        return CurrentVersion(ref.location, len(sizes), sum(sizes))

    def compact(self, ref: TableRef, target_bytes: int, sort_by: str | None = None) -> None:
        # It joins neighbours in the order in which they were written, so waves in order stay in order. Its own sorting
        # takes the whole table into memory.
        del sort_by
        DeltaFeatures.read(ref).refuse_unknown(ref)
        # The table is opened for every attempt, so that each starts from the latest version.
        commit(ref, lambda: self._table(ref).optimize.compact(target_size=target_bytes))

    def vacuum(self, ref: TableRef, hours: int) -> None:
        features = DeltaFeatures.read(ref)
        features.refuse_unknown(ref)
        if "deletionVectors" in features.writer_features:
            # delta-rs takes the files of deletion vectors for left-overs and deletes them: seen with 1.6.6.
            msg = (
                f"table {ref} has deletion vectors, and the vacuum of engine sail would delete them; set "
                "engine.name=spark"
            )
            raise EngineError(msg)
        # full=True also deletes the files of killed writes, which no log entry names.
        self._table(ref).vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)

    def data_files(self, ref: TableRef) -> list[str]:
        return [str(path) for path in pa.table(self._table(ref).get_add_actions()).column("path").to_pylist()]

    def checkpoint(self, ref: TableRef, erased_at: str) -> int:
        properties = {ERASED_AT: erased_at}
        commit(ref, lambda: self._table(ref).alter.set_table_properties(properties, raise_if_not_exists=False))
        table = self._table(ref)
        table.create_checkpoint()
        return int(table.version())

    def _table(self, ref: TableRef) -> "DeltaTable":
        if ref.format == "table":
            msg = f"engine sail cannot locate the catalog table {ref}; set engine.name=spark"
            raise EngineError(msg)
        return self._open(ref.location)
