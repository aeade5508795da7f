"""What a Delta table's folder holds, and which of its versions can still be read; without the engine."""

import json
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import structlog
from pyarrow import fs

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.locations import file_system, join

_COMMIT: Final = re.compile(r"^(\d{20})\.json$")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DiskUse:
    """The Parquet files below a table's folder.

    Attributes:
        files: How many.
        bytes: Together.
        unreadable: Versions in the log that need a file which is not there.
    """

    files: int
    bytes: int
    unreadable: frozenset[int]


def disk_use(location: str) -> DiskUse | None:
    """Looks into a table's folder.

    Args:
        location: A path or URI.

    Returns:
        What is there; None, with a warning, where Arrow cannot look.
    """
    try:
        system, folder = file_system(location)
        listed = system.get_file_info(fs.FileSelector(folder, recursive=True))
        sizes = {
            info.path[len(folder.rstrip("/")) + 1 :]: info.size
            for info in listed
            if info.type == fs.FileType.File and info.path.endswith(".parquet") and "/_delta_log/" not in info.path
        }
        lost = unreadable(_commits(system, join(folder, "_delta_log")), sizes.keys())
    except (EngineError, OSError) as error:
        log.warning(
            "old files are not counted, because the folder cannot be listed", folder=location, reason=str(error)
        )
        return None
    return DiskUse(len(sizes), sum(sizes.values()), frozenset(lost))


def unreadable(commits: Iterable[tuple[int, list[dict[str, Any]]]], present: Set[str]) -> set[int]:
    """Returns the versions that need a file which is not there.

    Args:
        commits: Versions and their actions, by rising version.
        present: Paths relative to the table.

    >>> log = [(0, [{"add": {"path": "a"}}]), (1, [{"add": {"path": "b"}}, {"remove": {"path": "a"}}])]
    >>> unreadable(log, {"b"})
    {0}
    """
    lost: set[int] = set()
    first: int | None = None
    added: dict[str, int] = {}
    for version, actions in commits:
        first = version if first is None else first
        for action in actions:
            if "add" in action:
                added[unquote(action["add"]["path"])] = version
            elif "remove" in action and (path := unquote(action["remove"]["path"])) not in present:
                # What an earlier, forgotten entry added was there from the first version that is left.
                lost.update(range(added.get(path, first), version))
    return lost


def _commits(system: fs.FileSystem, folder: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    found = {}
    for info in system.get_file_info(fs.FileSelector(folder)):
        name = _COMMIT.match(info.base_name)
        if name:
            found[int(name[1])] = info.path
    for version in sorted(found):
        with system.open_input_stream(found[version]) as stream:
            lines = stream.read().decode().splitlines()
        yield version, [json.loads(line) for line in lines if line]
