"""Reads the entries of a JSON Lines file, or of what people convert such a file to."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from faceattr_udf.errors import TableNotFoundError


class Entry(NamedTuple):
    """One entry of a file.

    Attributes:
        location: "line 3", or "entry 3" of an array.
        value: The parsed JSON; None if it is invalid.
        problem: Name of the parser's error; None if the JSON is valid.
    """

    location: str
    value: Any
    problem: str | None = None


def read_entries(path: Path) -> list[Entry]:
    """Reads JSON Lines, a JSON array of entries, or one entry that spans lines.

    Args:
        path: UTF-8, with or without a byte order mark, or UTF-16 with one. Other bytes are read as Latin-1.

    Raises:
        TableNotFoundError: The file cannot be read.
    """
    try:
        text = _decoded(path.read_bytes())
    except OSError as error:
        msg = f"DataTurks export {path} cannot be read ({error.strerror}); pass a JSON Lines file"
        raise TableNotFoundError(msg) from error
    if text.lstrip().startswith(("[", "{")):
        whole = _parsed("line 1", text)
        if whole.problem is None:
            return list(_flat(whole))
    # Only "\n": str.splitlines would also split at characters that JSON allows inside strings.
    lines = ((f"line {number}", line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [entry for location, line in lines if line for entry in _flat(_parsed(location, line))]


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _parsed(location: str, text: str) -> Entry:
    try:
        return Entry(location, json.loads(text))
    except (ValueError, RecursionError) as error:
        return Entry(location, None, type(error).__name__)


def _flat(entry: Entry) -> Iterator[Entry]:
    """Yields the entries of an array, or the entry itself."""
    if not isinstance(entry.value, list):
        yield entry
        return
    where = "entry" if entry.location == "line 1" else f"{entry.location}, entry"
    yield from (Entry(f"{where} {number}", value) for number, value in enumerate(entry.value, start=1))
