"""How much memory the Python workers of an engine take while it works."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PROCESSES = Path("/proc")
_SECONDS = 0.5


@dataclass
class MemoryCurve:
    """The resident memory of the largest worker and its children over time.

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
        embedded: The engine runs its workers as threads of this process, which is then the one that is watched, with
            all its children. Otherwise the largest Python worker that Spark's daemon has forked is, with its children.
    """
    curve, stop, started = MemoryCurve(), threading.Event(), time.monotonic()

    def sample() -> None:
        while not stop.wait(_SECONDS):
            parents = _parents()
            processes = [os.getpid()] if embedded else _workers(parents)
            sizes = [size for size in (_with_children(number, parents) for number in processes) if size]
            if sizes:
                curve.samples.append((time.monotonic() - started, max(sizes)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield curve
    finally:
        stop.set()
        thread.join()


def _workers(parents: Mapping[int, int]) -> list[int]:
    """The processes that Spark's daemon of Python workers has forked, below this process."""
    daemons = {number for number in parents if b"pyspark.daemon" in _read(number, "cmdline")}
    return [number for number in daemons if parents[number] in daemons and os.getpid() in _ancestors(number, parents)]


def _parents() -> dict[int, int]:
    stats = {int(folder.name): _read(int(folder.name), "stat") for folder in _PROCESSES.glob("[0-9]*")}
    # A command's name, in brackets, may contain anything.
    return {number: int(stat.rpartition(b")")[2].split()[1]) for number, stat in stats.items() if stat}


def _ancestors(number: int, parents: Mapping[int, int]) -> Iterator[int]:
    while number in parents:
        number = parents[number]
        yield number


def _with_children(number: int, parents: Mapping[int, int]) -> float:
    """MiB of a process and of all that descend from it: an isolated analyzer works in a child."""
    return _resident(number) + sum(_resident(other) for other in parents if number in _ancestors(other, parents))


def _read(number: int, name: str) -> bytes:
    try:
        return (_PROCESSES / str(number) / name).read_bytes()
    except OSError:
        return b""  # it ended meanwhile


def _resident(number: int) -> float:
    for line in _read(number, "status").splitlines():
        if line.startswith(b"VmRSS:"):
            return int(line.split()[1]) / 1024.0
    return 0.0
