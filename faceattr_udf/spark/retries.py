"""Commits that are tried again when another writer's commit came in between, which Delta then refuses."""

import random
import re
import time
from collections.abc import Callable
from typing import Final

import structlog

from faceattr_udf.errors import BusyError
from faceattr_udf.sanitize import first_line

_TRIES: Final = 10
_LONGEST_WAIT: Final = 10.0
_CONFLICT: Final = re.compile(
    r"DELTA_CONCURRENT_|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED|Concurrent\w+Exception"
    # The embedded engine's words; the second when it reads the log while another writes it.
    r"|Failed to commit transaction|Missing commit file"
    # delta-rs's, whose text varies and whose type does not.
    r"|^CommitFailedError:"
)

log = structlog.get_logger(__name__)


def is_conflict(error: Exception) -> bool:
    """Whether a commit was refused because of another's; engines have no common type for that.

    >>> is_conflict(RuntimeError("[DELTA_CONCURRENT_APPEND] files were added")), is_conflict(RuntimeError("disk full"))
    (True, False)
    """
    return _CONFLICT.search(f"{type(error).__name__}: {error}") is not None


def commit(table: object, act: Callable[[], object]) -> None:
    """Commits, again and again as long as others' commits come in between.

    Args:
        table: Whose name is told, a `TableRef`.
        act: Reads the table's current version and commits one that follows it.

    Raises:
        BusyError: Another one came in between every time.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            act()
            return
        except Exception as error:
            if not is_conflict(error):
                raise
            if attempt == _TRIES:
                msg = (
                    f"table {table} is changed by others so often that {_TRIES} commits failed ({first_line(error)}); "
                    "what was committed stays, run this again when the other writer has ended"
                )
                raise BusyError(msg) from error
            # By chance, so that two writers do not meet again and again.
            seconds = min(0.2 * 2**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1.0)  # noqa: S311  # no secret depends on it
            log.info("another writer's commit came first; once more", table=str(table), seconds=round(seconds, 2))
            time.sleep(seconds)
