"""What a person watching a long run reads on stderr: a line per wave, and structured events."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from faceattr_udf.sanitize import printable, redacted


def configure_logging() -> None:
    """Sends the log to stderr: readable lines in a terminal, JSON lines elsewhere."""
    render = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _harmless,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Looked up at every line: whoever captures stderr replaces it.
        logger_factory=lambda *_: structlog.PrintLogger(file=sys.stderr),
    )


def _harmless(_: object, __: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Names that others chose must not look like lines of the log, nor steer the terminal that shows it."""
    return {key: _shown(value) for key, value in event.items()}


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever a line of the log holds
    if isinstance(value, str):
        return printable(redacted(value))
    if isinstance(value, list | tuple):
        return [_shown(part) for part in value]
    return value


class Progress:
    """Counts images and estimates the time left from the rate so far."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._total = total
        self._done = 0
        self._faces = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def images_per_second(self) -> float:
        """The rate so far; 0 before anything is done."""
        return self._done / self.seconds if self._done and self.seconds > 0 else 0.0

    def advance(self, images: int, faces: int) -> dict[str, int | float | None]:
        """Counts a committed wave.

        Returns:
            images, total, images_per_second, seconds_left (None while unknown), faces: what the log line says.

        >>> ticks = iter([0.0, 10.0, 10.0, 10.0])
        >>> Progress(300, lambda: next(ticks)).advance(100, 7)
        {'images': 100, 'total': 300, 'images_per_second': 10.0, 'seconds_left': 20, 'faces': 7}
        """
        self._done += images
        self._faces += faces
        rate = self.images_per_second
        return {
            "images": self._done,
            "total": self._total,
            "images_per_second": round(rate, 2),
            "seconds_left": round((self._total - self._done) / rate) if rate else None,
            "faces": self._faces,
        }
