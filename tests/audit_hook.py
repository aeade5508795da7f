"""Run in a process, it makes that process write down what it does, if FACEATTR_AUDIT names a folder.

Each process has a file there, one JSON list per line: the audit event of Python, then what matters of its arguments.
"""

import json
import os
import sys
import threading

_WATCHED = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.sendto",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "pty.spawn",
    "pickle.find_class",
    "compile",
    "exec",
    "open",
)
_own = threading.local()


def _detail(event: str, arguments: tuple[object, ...]) -> list[object] | None:
    if event == "compile":
        source, name = arguments
        return None if source is None else [str(name)]
    if event == "exec":
        return [str(getattr(arguments[0], "co_filename", "?"))]
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return [str(path), str(mode)] if writes else None
    return [str(argument) for argument in arguments]


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _WATCHED or getattr(_own, "writing", False):
        return
    _own.writing = True
    try:
        detail = _detail(event, arguments)
        if detail is not None:
            os.write(_log, (json.dumps([event, *detail]) + "\n").encode())
    finally:
        _own.writing = False


if "FACEATTR_AUDIT" in os.environ:
    _log = os.open(f"{os.environ['FACEATTR_AUDIT']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.addaudithook(_watch)
