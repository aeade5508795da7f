"""Measures the files of a table on disk, without the engine."""

from dataclasses import dataclass

import structlog
from pyarrow import fs

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.locations import file_system

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DiskUsage:
    """The Parquet files below a table's folder, including those of earlier versions.

    Attributes:
        files: Their number.
        bytes: Their total size.
    """

    files: int
    bytes: int


def measure_disk_usage(location: str) -> DiskUsage | None:
    """Measures the Parquet files below a table's folder.

    Args:
        location: The folder's path or URI.

    Returns:
        The usage, or None, with a warning, where Arrow cannot list the folder.
    """
    try:
        system, folder = file_system(location)
        entries = system.get_file_info(fs.FileSelector(folder, recursive=True))
    except (EngineError, OSError) as error:
        log.warning("disk_usage_unknown", folder=location, reason=str(error))
        return None
    sizes = [
        entry.size
        for entry in entries
        if entry.type == fs.FileType.File and entry.extension == "parquet" and "/_delta_log/" not in entry.path
    ]
    return DiskUsage(len(sizes), sum(sizes))
