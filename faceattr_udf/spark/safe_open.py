"""Files below a folder, and never one outside: symbolic links may lead about inside it."""

import errno
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking, because to open a pipe would otherwise wait until somebody writes to it.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class LeadsOutsideError(OSError):
    """A path leaves the folder that it should stay in."""


def open_inside(folder: Path, path: Path) -> BinaryIO:
    """Opens a file for reading if it really lies below a folder.

    Links are resolved first; then every folder on the way is opened from the one above it, and none may be a link by
    then. So what somebody swaps for a link between the check and the opening is refused as well.

    Args:
        folder: May itself be reached through links.
        path: Of the file, beginning with `folder`.

    Returns:
        The open file.

    Raises:
        LeadsOutsideError: The file lies elsewhere.
        OSError: There is none, it is a folder, a device or a pipe, links lead in circles, or it cannot be read.
    """
    # Not Path.resolve, which raises a RuntimeError where links lead in circles.
    inside = Path(os.path.realpath(folder, strict=True))
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(inside):
        msg = f"{path} leads out of {folder}"
        raise LeadsOutsideError(msg)
    if not stat.S_ISREG(real.stat().st_mode):  # to open a device may already do something
        raise _not_regular(path)
    *folders, name = real.relative_to(inside).parts
    with ExitStack() as stack:
        here = os.open(inside, _FOLDER)
        stack.callback(os.close, here)
        for part in folders:
            here = os.open(part, _FOLDER, dir_fd=here)
            stack.callback(os.close, here)
        # The descriptor becomes the file's at once, which closes it where it is a folder's.
        file = open(name, "rb", opener=lambda name, _: os.open(name, _FILE, dir_fd=here))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _not_regular(path)
    return file


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", str(path))
