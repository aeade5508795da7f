"""The data files of an images table: which file a row is in, and the rows of some of the files.

Spark tells a row's file (`_metadata.file_path`) for Parquet and Delta. A condition on it lets Spark skip other files of
Parquet, but not of Delta (4.4 and before), whose own classes read chosen files. They are reached through the JVM, so a
Delta table on a Connect server is read by ranges of image_id, and so is what has no files: views, JDBC, other formats.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.sanitize import first_line

_FILE: Final = "_metadata.file_path"

log = structlog.get_logger(__name__)


class ImageFiles(Protocol):
    """The files of one table."""

    def read(self, files: Collection[str]) -> DataFrame:
        """Returns a frame that has at least all rows of the files, and reads few others."""
        ...


def file_of_row() -> Column:
    """Returns the file of a row of a table that has `ImageFiles`."""
    return F.col(_FILE)


def image_files(frame: DataFrame, engine: str, table_format: str) -> ImageFiles | None:
    """Returns the files of a table; None where the engine does not tell them, or cannot read only some of them.

    Args:
        frame: The table.
        engine: The name of its engine.
        table_format: parquet, delta or table, as of a `TableRef`.
    """
    if engine == "sail" or any(name.casefold() == "_metadata" for name in frame.columns):
        return None
    if engine == "connect":
        return _ParquetFiles(frame) if table_format == "parquet" else None
    try:
        return _found_in_plan(frame)
    except Exception as error:  # whatever a platform's own classes raise
        log.info("image_files_unknown", reason=first_line(error))
        return None


def _found_in_plan(frame: DataFrame) -> ImageFiles | None:
    plan = frame._jdf.queryExecution().analyzed()
    leaves = plan.collectLeaves()
    # Views hide the column.
    if "_metadata" not in plan.metadataOutput().mkString(" ") or leaves.size() != 1:
        return None
    index = leaves.head().relation().location()
    kind = index.getClass().getName()
    if kind.startswith("org.apache.spark.sql.execution.datasources."):
        return _ParquetFiles(frame)
    if not kind.endswith(".TahoeLogFileIndex") or not _is_whole_table(frame):
        return None
    found = _DeltaFiles(frame, index)
    return found if found.read(()).columns == frame.columns else None


def _is_whole_table(frame: DataFrame) -> bool:
    """Checks that a frame is a table as it is: without conditions and computed columns, which its files lack."""
    plan: Any = frame._jdf.queryExecution().analyzed()
    while plan.getClass().getSimpleName() == "SubqueryAlias":
        plan = plan.child()
    return bool(plan.children().isEmpty())


@dataclass(frozen=True)
class _ParquetFiles:
    frame: DataFrame

    def read(self, files: Collection[str]) -> DataFrame:
        return self.frame.where(file_of_row().isin(list(files)))


@dataclass(frozen=True)
class _DeltaFiles:
    """The files of a Delta table.

    Attributes:
        frame: The table.
        index: Delta's file index of the frame, in the JVM.
    """

    frame: DataFrame
    index: Any

    def read(self, files: Collection[str]) -> DataFrame:
        # Delta keeps paths relative to the table, or absolute after a clone, so only the names are compared. Of a name
        # that two folders have, both files are read.
        names = {file.rpartition("/")[2] for file in files}
        spark, snapshot = self.frame.sparkSession, self.index.getSnapshot()
        jvm: Any = spark._jvm
        chosen = jvm.java.util.ArrayList()
        if names:
            same = F.substring_index(F.col("path"), "/", -1).isin(list(names))
            chosen = snapshot.allFiles().filter(same._jc).collectAsList()
            if chosen.size() < len(names):
                # Another writer has replaced some of them since the plan was made.
                log.info("image_files_replaced", files=len(names), found=chosen.size())
                return self.frame
        some = jvm.scala.collection.JavaConverters.asScalaBuffer(chosen).toSeq()
        read = self.index.deltaLog().createDataFrame(snapshot, some, False, jvm.scala.Option.empty())
        return DataFrame(read, spark)
