"""`--json FILE`: the summary of a finished command, for schedulers."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from faceattr_udf.cli.options import PATH
from faceattr_udf.cli.output_files import check_output_file

_F = TypeVar("_F", bound=Callable[..., Any])


def json_option(function: _F) -> _F:
    """Adds `--json FILE`, passed as `json_file`."""
    return click.option(
        "--json",
        "json_file",
        type=PATH,
        metavar="FILE",
        help="Also write the summary to this file, as JSON; it exists only if the command has succeeded.",
    )(function)


class SummaryFile:
    """The file of `--json`, checked before any work and written after it."""

    def __init__(self, path: Path | None) -> None:
        """Checks that the file can be written, and removes that of an earlier command.

        Args:
            path: The file; None means that nobody asked for it.

        Raises:
            ConfigError: The file cannot be written.
        """
        self._path = path
        if path is not None:
            check_output_file(path, "--json", make_folder=False)
            path.unlink(missing_ok=True)

    @property
    def _unfinished(self) -> Path:
        assert self._path is not None  # noqa: S101 - narrows the type
        return self._path.with_name(f".{self._path.name}.{os.getpid()}")

    def write(self, command: str, summary: Mapping[str, Any]) -> None:
        """Writes the summary as a whole, so that nobody reads half of it.

        Args:
            command: The command's name.
            summary: Plain data; other values are written as text, such as times and tables.
        """
        if self._path is None:
            return
        text = json.dumps({"command": command, **summary}, indent=2, default=str, ensure_ascii=False)
        self._unfinished.write_text(text + "\n", encoding="utf-8")
        self._unfinished.replace(self._path)
