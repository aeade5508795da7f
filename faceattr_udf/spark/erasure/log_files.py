"""Deletes old entries of a Delta log: they hold the least and greatest ids of files, and conditions with ids."""

import re
from typing import Final

from pyarrow import fs

from faceattr_udf.spark.locations import file_system, join

_VERSION: Final = re.compile(r"\.?(\d{20})\.")
"""Begins the names of commits, checkpoints, checksums and compacted commits, and of Hadoop's own files beside them."""


def delete_older_entries(location: str, version: int) -> None:
    """Deletes the entries of a table's log before a version that has a checkpoint; can be repeated.

    Readers start at the newest checkpoint, so the table stays complete, without its history.

    Args:
        location: The table's folder.
        version: A version with a complete checkpoint.
    """
    system, folder = file_system(join(location, "_delta_log"))
    for info in system.get_file_info(fs.FileSelector(folder, recursive=True)):
        if info.type != fs.FileType.File:
            continue
        found = _VERSION.match(info.base_name)
        unfinished = info.base_name.startswith(".") and info.base_name.endswith(".tmp")
        if (found is not None and int(found[1]) < version) or unfinished:
            system.delete_file(info.path)
