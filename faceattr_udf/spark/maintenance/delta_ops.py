"""Compaction and vacuum of one Delta table: with Spark's SQL, or with delta-rs on the embedded engine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.engine_errors import is_conflict, reason
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.retries import commit

if TYPE_CHECKING:
    from deltalake import DeltaTable


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

    def compact(self, ref: TableRef, target_bytes: int) -> None:
        """Joins small files into files of about `target_bytes`, in one commit that changes no row."""
        ...

    def vacuum(self, ref: TableRef, hours: int) -> None:
        """Deletes the files that no version of the last `hours` needs, including those of killed writes."""
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

    def compact(self, ref: TableRef, target_bytes: int) -> None:
        size = str(target_bytes)
        names = ("spark.databricks.delta.optimize.minFileSize", "spark.databricks.delta.optimize.maxFileSize")
        with self._settings(dict.fromkeys(names, size)):
            commit(ref, lambda: self._sql("OPTIMIZE", ref))

    def vacuum(self, ref: TableRef, hours: int) -> None:
        # Delta refuses less than a week unless this check is off; `maintain` has checks of its own.
        with self._settings({"spark.databricks.delta.retentionDurationCheck.enabled": "false"}):
            self._sql("VACUUM", ref, f"RETAIN {hours} HOURS")

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

    def compact(self, ref: TableRef, target_bytes: int) -> None:
        # The table is opened for every attempt, so that each starts from the latest version.
        commit(ref, lambda: self._table(ref).optimize.compact(target_size=target_bytes))

    def vacuum(self, ref: TableRef, hours: int) -> None:
        # full=True also deletes the files of killed writes, which no log entry names.
        self._table(ref).vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)

    def _table(self, ref: TableRef) -> "DeltaTable":
        if ref.format == "table":
            msg = f"engine sail cannot locate the catalog table {ref}; set engine.name=spark"
            raise EngineError(msg)
        return self._open(ref.location)
