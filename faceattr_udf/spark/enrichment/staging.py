"""The folder where a run keeps what it has computed but not yet committed."""

from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.locations import file_system, join

_FOLDER: Final = "_staging"

log = structlog.get_logger(__name__)


class Staging:
    """`OUTPUT/_staging/RUN`: Parquet that is written once, read back, and removed.

    Inference happens exactly in one such write, however often an engine evaluates what follows.
    """

    def __init__(self, spark: SparkSession, output: str, run_id: str) -> None:
        self._spark = spark
        self._root = join(output, _FOLDER)
        self._folder = join(self._root, run_id)

    def write(self, name: str, frame: DataFrame) -> DataFrame:
        """Evaluates a DataFrame once and returns what was written."""
        location = join(self._folder, name)
        schema = frame.schema
        frame.write.mode("overwrite").parquet(location)
        return self._read(location, schema)

    def _read(self, location: str, schema: StructType) -> DataFrame:
        return self._spark.read.schema(schema).parquet(location)

    def remove(self, name: str) -> None:
        """Removes one result and everything below it."""
        _remove(join(self._folder, name))

    def clear(self) -> None:
        """Removes what all runs have left; there is one run at a time on an output folder."""
        _remove(self._root)


def remove_abandoned(output: str, age: timedelta) -> None:
    """Removes what killed runs have left: runs that have written nothing for `age`.

    The next run removes it too; where none comes, faces would stay outside the tables.
    """
    root = join(output, _FOLDER)
    try:
        system, name = file_system(root)
        found = system.get_file_info(fs.FileSelector(name, recursive=True, allow_not_found=True))
    except (EngineError, OSError) as error:
        log.warning("staged files are not looked for", folder=root, reason=str(error))
        return
    written: dict[str, list[datetime]] = {}
    for info in found:
        run_id, _, file = info.path[len(name.rstrip("/")) + 1 :].partition("/")
        if file and info.type == fs.FileType.File and info.mtime is not None:
            written.setdefault(run_id, []).append(info.mtime)
    before = datetime.now(UTC) - age
    for run_id, times in written.items():
        if max(times) < before:
            _remove(join(root, run_id))


def _remove(location: str) -> None:
    try:
        system, name = file_system(location)
        if system.get_file_info(name).type == fs.FileType.Directory:
            system.delete_dir(name)
    except (EngineError, OSError) as error:
        # The tables are right without it: what is left costs space, and a night must not fail for that.
        log.warning("staged files are left; delete them yourself", folder=location, reason=str(error))
