"""Opens files below a folder; symbolic links that lead out of it are refused.

SECURITY.md promises this also for links that change while a job runs. `O_NOFOLLOW` alone would not keep it: it protects
the last part of a path only, and a folder above the file may be swapped for a link as well.
"""

import errno
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking, because opening a pipe would otherwise wait for a writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class OutsideFolderError(OSError):
    """A path leads out of the folder that it should stay in."""


def open_inside(folder: Path, path: Path) -> BinaryIO:
    """Opens a file for reading if it lies below a folder after its links are resolved.

    Links are resolved first. Then every folder of the resolved path is opened relative to the one above it, without
    following links: what was replaced by a link after the check is refused.

    Args:
        folder: The folder; it may itself be reached through links.
        path: The file's path, which begins with `folder`.

    Returns:
        The open file.

    Raises:
        OutsideFolderError: The file lies outside of the folder.
        OSError: The file is missing, not a regular file or not readable, or its links form a cycle.
    """
    # Not Path.resolve, which raises a RuntimeError for a cycle of links.
    inside = Path(os.path.realpath(folder, strict=True))
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(inside):
        msg = f"{path} leads out of {folder}"
        raise OutsideFolderError(msg)
    if not stat.S_ISREG(real.stat().st_mode):  # opening a device may already have an effect
        raise _not_regular(path)
    *folders, name = real.relative_to(inside).parts
    with ExitStack() as stack:
        here = os.open(inside, _FOLDER)
        stack.callback(os.close, here)
        for part in folders:
            here = os.open(part, _FOLDER, dir_fd=here)
            stack.callback(os.close, here)
        # `open` with an opener closes the descriptor if it turns out to be a folder.
        file = open(name, "rb", opener=lambda name, _: os.open(name, _FILE, dir_fd=here))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _not_regular(path)
    return file


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", str(path))
