"""Compaction and vacuum of one Delta table: by Spark's SQL, or by delta-rs where the embedded engine's has neither."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession

from faceattr_udf.errors import EngineError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.retries import commit, is_conflict

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Current:
    """A table's current version.

    Attributes:
        location: The path or URI of the table's folder.
        files: That a query reads.
        bytes: Of those.
    """

    location: str
    files: int
    bytes: int


class Upkeep(Protocol):
    """What an engine can do for a table beside reading and writing it."""

    def current(self, ref: TableRef) -> Current:
        """Returns what the table's current version consists of."""
        ...

    def compact(self, ref: TableRef, target_bytes: int) -> None:
        """Joins small files into files of about `target_bytes`, in one commit that changes no row."""
        ...

    def vacuum(self, ref: TableRef, hours: int) -> None:
        """Deletes the files that no version of the last `hours` needs, those of killed writes among them."""
        ...


def upkeep(spark: SparkSession, engine: str) -> Upkeep:
    """Returns what an engine can do.

    Raises:
        EngineError: The embedded engine needs a package that is not installed.
    """
    return _DeltaRs() if engine == "sail" else _Sql(spark)


class _Sql:
    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def current(self, ref: TableRef) -> Current:
        (detail,) = self._sql("DESCRIBE DETAIL", ref)
        return Current(str(detail["location"]), int(detail["numFiles"]), int(detail["sizeInBytes"]))

    def compact(self, ref: TableRef, target_bytes: int) -> None:
        size = str(target_bytes)
        names = ("spark.databricks.delta.optimize.minFileSize", "spark.databricks.delta.optimize.maxFileSize")
        with self._settings(dict.fromkeys(names, size)):
            commit(ref, lambda: self._sql("OPTIMIZE", ref))

    def vacuum(self, ref: TableRef, hours: int) -> None:
        # Below a week Delta refuses unless told that somebody has thought about it; `maintain` has.
        with self._settings({"spark.databricks.delta.retentionDurationCheck.enabled": "false"}):
            self._sql("VACUUM", ref, f"RETAIN {hours} HOURS")

    def _sql(self, verb: str, ref: TableRef, *rest: str) -> list[Row]:
        try:
            return self._spark.sql(" ".join([verb, ref.sql, *rest])).collect()
        except PySparkException as error:
            if is_conflict(error):
                raise
            msg = f"{verb} of table {ref} failed ({first_line(error)}); the engine must know Delta Lake's own SQL"
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


class _DeltaRs:
    def __init__(self) -> None:
        try:
            import deltalake  # noqa: PLC0415
        except ImportError as error:
            msg = (
                f"engine sail has neither OPTIMIZE nor VACUUM, and the package that has is not installed ({error}); "
                "install the extra faceattr_udf[maintain] or set engine.name=spark"
            )
            raise EngineError(msg) from error
        self._open = deltalake.DeltaTable

    def current(self, ref: TableRef) -> Current:
        column = pa.table(self._table(ref).get_add_actions()).column("size_bytes")
        sizes = [int(size or 0) for size in column.to_pylist()]
        return Current(ref.location, len(sizes), sum(sizes))

    def compact(self, ref: TableRef, target_bytes: int) -> None:
        # A table is opened anew for every attempt: it is the version that the attempt starts from.
        commit(ref, lambda: self._table(ref).optimize.compact(target_size=target_bytes))

    def vacuum(self, ref: TableRef, hours: int) -> None:
        # Not full, it would leave the files of killed writes, which no log entry names.
        self._table(ref).vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)

    def _table(self, ref: TableRef) -> "DeltaTable":
        if ref.format == "table":
            msg = f"engine sail does not say where table {ref} of the catalogue lies; set engine.name=spark"
            raise EngineError(msg)
        return self._open(ref.location)
