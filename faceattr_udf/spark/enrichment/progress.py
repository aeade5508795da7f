"""Progress of a run: the interface for progress bars, and the numbers for log lines."""

import time
from collections.abc import Callable
from typing import Protocol


class ProgressListener(Protocol):
    """Receives the progress of a run, for example to draw a progress bar."""

    def planned(self, total: int) -> None:
        """Called once, when the number of pending images is known."""
        ...

    def wave_committed(self, images: int, faces: int, failed: int) -> None:
        """Called after every wave.

        Args:
            images: Images of this wave.
            faces: Faces found in them.
            failed: Images among them that could not be analyzed: missing, damaged, unsupported, too large, or failed in
                a model.
        """
        ...


class NoListener:
    """Ignores the progress."""

    def planned(self, total: int) -> None:
        """Does nothing."""

    def wave_committed(self, images: int, faces: int, failed: int) -> None:
        """Does nothing."""


class Throughput:
    """Counts committed images and estimates the time left from the average rate."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._total = total
        self._images = 0
        self._faces = 0
        self._failed = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def add(self, images: int, faces: int, failed: int) -> dict[str, int | float | None]:
        """Adds a committed wave and returns the fields of its log line.

        Returns:
            images, total, images_per_second, seconds_left (None while unknown), faces, failed; all since the start.

        >>> ticks = iter([0.0, 10.0])
        >>> Throughput(300, lambda: next(ticks)).add(images=100, faces=7, failed=2)
        {'images': 100, 'total': 300, 'images_per_second': 10.0, 'seconds_left': 20, 'faces': 7, 'failed': 2}
        """
        self._images += images
        self._faces += faces
        self._failed += failed
        seconds = self.seconds
        rate = self._images / seconds if seconds > 0 else 0.0
        return {
            "images": self._images,
            "total": self._total,
            "images_per_second": round(rate, 2),
            "seconds_left": round((self._total - self._images) / rate) if rate else None,
            "faces": self._faces,
            "failed": self._failed,
        }
