"""How much memory the Python workers of an engine take while it works."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PROCESSES = Path("/proc")
_SECONDS = 0.5


@dataclass
class MemoryCurve:
    """The largest worker's resident memory over time.

    Attributes:
        samples: (seconds since the start, MiB), where there was a worker.
    """

    samples: list[tuple[float, float]] = field(default_factory=list)

    def summary(self) -> dict[str, float] | None:
        """Peak, and the medians of the second and of the last quarter of the time; None where nothing was seen.

        >>> MemoryCurve([(float(t), 500.0 + t) for t in range(100)]).summary()
        {'peak_mib': 599.0, 'second_quarter_mib': 537.0, 'last_quarter_mib': 587.0}
        """
        if not self.samples:
            return None
        values = [value for _, value in self.samples]
        quarter = max(1, len(values) // 4)
        second, last = values[quarter : 2 * quarter] or values, values[-quarter:]
        return {
            "peak_mib": round(max(values), 1),
            "second_quarter_mib": round(sorted(second)[len(second) // 2], 1),
            "last_quarter_mib": round(sorted(last)[len(last) // 2], 1),
        }


@contextmanager
def watch_workers(*, embedded: bool) -> Iterator[MemoryCurve]:
    """Samples the resident memory of the largest worker while the block runs; Linux only, nothing elsewhere.

    Args:
        embedded: The engine runs its workers as threads of this process, which is then the one that is watched.
            Otherwise the Python processes that descend from this one are, which Spark's daemon has forked.
    """
    curve, stop, started = MemoryCurve(), threading.Event(), time.monotonic()

    def sample() -> None:
        while not stop.wait(_SECONDS):
            processes = [os.getpid()] if embedded else _workers()
            sizes = [size for size in map(_resident, processes) if size]
            if sizes:
                curve.samples.append((time.monotonic() - started, max(sizes)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield curve
    finally:
        stop.set()
        thread.join()


def _workers() -> list[int]:
    parents, names = {}, {}
    for folder in _PROCESSES.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text(encoding="utf-8")
            command = (folder / "cmdline").read_text(encoding="utf-8")
        except OSError:
            continue  # it ended meanwhile
        number = int(folder.name)
        parents[number] = int(stat.rpartition(")")[2].split()[1])
        names[number] = command
    return [number for number in parents if "pyspark" in names[number] and _descends(number, parents)]


def _descends(number: int, parents: dict[int, int]) -> bool:
    while number in parents:
        number = parents[number]
        if number == os.getpid():
            return True
    return False


def _resident(number: int) -> float:
    """MiB."""
    try:
        status = (_PROCESSES / str(number) / "status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024.0
    return 0.0
