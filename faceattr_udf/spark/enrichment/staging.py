"""The staging area: what a run has computed but not yet committed."""

from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.locations import file_system, join

_FOLDER: Final = "_staging"

log = structlog.get_logger(__name__)


class Staging:
    """Parquet folders below `OUTPUT/_staging/RUN_ID`, written once, read back, and removed.

    Engines evaluate a DataFrame again for every use. Inference therefore happens in exactly one staging write.
    """

    def __init__(self, spark: SparkSession, output: str, run_id: str) -> None:
        self._spark = spark
        self._root = join(output, _FOLDER)
        self._folder = join(self._root, run_id)

    def write(self, name: str, frame: DataFrame, row_group_bytes: int | None = None) -> DataFrame:
        """Evaluates a DataFrame once, and returns the rows that were written.

        Args:
            name: Its folder.
            frame: The rows.
            row_group_bytes: Spark's row groups; small ones let readers skip most of a sorted frame. None means Spark's
                default.
        """
        location = join(self._folder, name)
        schema = frame.schema
        options = {} if row_group_bytes is None else {"parquet.block.size": str(row_group_bytes)}
        frame.write.options(**options).mode("overwrite").parquet(location)
        return self._spark.read.schema(schema).option("__globPaths__", "false").parquet(location)

    def remove(self, name: str) -> None:
        """Removes what was written under a name, or below it."""
        _remove(join(self._folder, name))

    def clear(self) -> None:
        """Removes the staging area with all leftovers of earlier runs; only one run writes to an output at a time."""
        _remove(self._root)


def remove_abandoned(output: str, age: timedelta) -> None:
    """Removes leftovers of killed runs that have written nothing for `age`.

    The next run removes them too; if there is none, face data would stay outside the tables.
    """
    root = join(output, _FOLDER)
    try:
        system, name = file_system(root)
        found = system.get_file_info(fs.FileSelector(name, recursive=True, allow_not_found=True))
    except (EngineError, OSError) as error:
        log.warning("staging_not_listed", folder=root, reason=str(error))
        return
    times_by_run: dict[str, list[datetime]] = {}
    for info in found:
        run_id, _, file = info.path[len(name.rstrip("/")) + 1 :].partition("/")
        if file and info.type == fs.FileType.File and info.mtime is not None:
            times_by_run.setdefault(run_id, []).append(info.mtime)
    before = datetime.now(UTC) - age
    for run_id, times in times_by_run.items():
        if max(times) < before:
            _remove(join(root, run_id))


def _remove(location: str) -> None:
    try:
        system, name = file_system(location)
        if system.get_file_info(name).type == fs.FileType.Directory:
            system.delete_dir(name)
    except (EngineError, OSError) as error:
        # Leftovers cost space and do not affect the tables, so the run goes on.
        log.warning("staging_not_removed", folder=location, reason=str(error), advice="delete the folder by hand")
