"""Logs the audit events of a process, if the environment variable FACEATTR_AUDIT names a folder.

Every process writes one file, with one JSON list per line: the name of the event, then its relevant arguments.
"""

import json
import os
import sys
import threading

_EVENTS = (
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
_thread = threading.local()


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


def _log_event(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _EVENTS or getattr(_thread, "logging", False):
        return
    _thread.logging = True
    try:
        detail = _detail(event, arguments)
        if detail is not None:
            os.write(_file, (json.dumps([event, *detail]) + "\n").encode())
    finally:
        _thread.logging = False


if "FACEATTR_AUDIT" in os.environ:
    _file = os.open(f"{os.environ['FACEATTR_AUDIT']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.addaudithook(_log_event)
