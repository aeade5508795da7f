"""The progress bar of a run, on stderr."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:
    from faceattr_udf.spark.enrichment.progress import ProgressListener

_WIDE: Final = 110
"""Columns of a terminal that shows a run over a million images in one line."""


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator["ProgressListener | None"]:
    """Shows a progress bar while the context is open; log lines appear above it.

    Args:
        console: Where to draw; None means stderr.

    Yields:
        The listener to pass to `enrich`, or None where there is no terminal.
    """
    # rich itself takes a file for a terminal when FORCE_COLOR is set.
    on_terminal = sys.stderr.isatty() if console is None else console.is_terminal
    # The stream is passed explicitly, because sys.stderr is replaced below.
    console = console or Console(file=sys.stderr)
    if not on_terminal or console.is_dumb_terminal:
        yield None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        _RunColumn(console),
        console=console,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    stderr = _LinesAboveBar(console)
    try:
        with redirect_stderr(stderr), bar:
            yield _BarListener(bar)
    finally:
        stderr.finish()


class _BarListener:
    """Draws what `enrich` reports."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("planning", total=None)

    def planned(self, total: int) -> None:
        """Shows the number of pending images; elapsed time and rate count from here."""
        self._bar.reset(self._task, description="enriching", total=total, faces=0, failed=0, committed_after=0.0)

    def wave_committed(self, images: int, faces: int, failed: int) -> None:
        """Adds the images, faces and failed images of a wave."""
        task = self._bar.tasks[0]
        self._bar.update(
            self._task,
            advance=images,
            faces=task.fields["faces"] + faces,
            failed=task.fields["failed"] + failed,
            committed_after=task.elapsed or 0.0,
            refresh=True,
        )


class _RunColumn(ProgressColumn):
    """Images, images per second, time left, elapsed time, faces and failed images.

    Rate and time left are averages since planning: rich's own columns use the last seconds, and a wave takes minutes.
    Rich redraws the bar several times a second, so both times also move during a wave.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(Column(no_wrap=True))
        self._console = console

    def render(self, task: Task) -> Text:
        """Returns the column's text; on narrow terminals it has two lines."""
        elapsed = task.elapsed or 0.0
        if task.total is None:
            return Text(f"{_duration(elapsed)} elapsed")
        faces, failed, committed_after = (task.fields[name] for name in ("faces", "failed", "committed_after"))
        rate = task.completed / committed_after if committed_after else 0.0
        left = _duration((task.total - task.completed) / rate - (elapsed - committed_after)) if rate else "-:--:--"
        return Text.assemble(
            f"{int(task.completed):,}/{int(task.total):,} images  {rate:,.1f}/s  {left} left",
            "  " if self._console.width >= _WIDE else "\n",
            f"{_duration(elapsed)} elapsed  {faces:,} faces  ",
            (f"{failed:,} failed", "red" if failed else ""),
        )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(0, int(seconds))))


class _LinesAboveBar(io.TextIOBase):
    """Stands in for stderr while the bar is shown: prints whole lines above the bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._unfinished = ""

    def write(self, text: str) -> int:
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._print(line)
        return len(text)

    def finish(self) -> None:
        if self._unfinished:
            self._print(self._unfinished)
            self._unfinished = ""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._console.file.fileno()

    def _print(self, line: str) -> None:
        # Soft wrap: the terminal breaks long lines, so that a copied line stays one line.
        self._console.print(Text.from_ansi(line), soft_wrap=True)
