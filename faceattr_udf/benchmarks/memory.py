"""Samples the memory of an engine, or of its Python workers, while a job runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import psutil

_INTERVAL_SECONDS = 0.5


@dataclass
class MemoryCurve:
    """The resident memory of a process and its descendants over time.

    Attributes:
        samples: (seconds since the start, MiB) at the times when there was such a process.
    """

    samples: list[tuple[float, float]] = field(default_factory=list)

    def summary(self) -> dict[str, float] | None:
        """Returns the peak and the medians of the second and the last quarter of the samples; None without samples.

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


def watch_workers(*, embedded: bool) -> AbstractContextManager[MemoryCurve]:
    """Samples the resident memory of the largest worker while the block runs.

    Args:
        embedded: Whether the engine runs its workers as threads of this process. If so, this process and its children
            are sampled, otherwise the Python workers that Spark's daemon forked, each with its children.
    """
    return watch_all() if embedded else _watch(_spark_workers)


def watch_all() -> AbstractContextManager[MemoryCurve]:
    """Samples the resident memory of this process and all its descendants while the block runs."""
    return _watch(lambda this: [this])


@contextmanager
def _watch(roots: Callable[[psutil.Process], list[psutil.Process]]) -> Iterator[MemoryCurve]:
    """Samples the memory of the largest of some process trees below this process."""
    curve, stop, started = MemoryCurve(), threading.Event(), time.monotonic()

    def sample() -> None:
        this = psutil.Process()
        while not stop.wait(_INTERVAL_SECONDS):
            sizes = [size for size in map(_tree_mib, roots(this)) if size]
            if sizes:
                curve.samples.append((time.monotonic() - started, max(sizes)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield curve
    finally:
        stop.set()
        thread.join()


def _spark_workers(process: psutil.Process) -> list[psutil.Process]:
    """Returns the workers below a process: children of Spark's daemon, which run the daemon's command line."""
    daemons = {child.pid: child for child in process.children(recursive=True) if _is_spark_daemon(child)}
    return [child for child in daemons.values() if _parent_pid(child) in daemons]


def _is_spark_daemon(process: psutil.Process) -> bool:
    try:
        return any("pyspark.daemon" in argument for argument in process.cmdline())
    except psutil.Error:
        return False  # it ended meanwhile


def _parent_pid(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.Error:
        return None


def _tree_mib(process: psutil.Process) -> float:
    """Returns the MiB of a process and its descendants: an isolated analyzer works in a child process."""
    try:
        processes = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    return sum(map(_resident_mib, processes))


def _resident_mib(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 2**20
    except psutil.Error:
        return 0.0
