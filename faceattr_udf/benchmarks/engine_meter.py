"""Measures what a job costs its engine: CPU seconds, memory, tasks, bytes read, waves, and rows written again."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from faceattr_udf.benchmarks.memory import watch_all
from faceattr_udf.spark.enrichment.progress import NoListener

_METRICS: Final = {
    "MERGE": {
        "inserted": "numTargetRowsInserted",
        "updated": "numTargetRowsUpdated",
        "deleted": "numTargetRowsDeleted",
        "copied": "numTargetRowsCopied",
        "files_added": "numTargetFilesAdded",
        "files_removed": "numTargetFilesRemoved",
    },
    # Rows of new images are appended.
    "WRITE": {"inserted": "numOutputRows", "files_added": "numFiles"},
}
"""Operation in Delta's log -> names of its metrics, which both engines write."""


@dataclass
class Cost(NoListener):
    """What one job cost; it listens to the job's progress.

    Attributes:
        seconds: Wall time.
        cpu_seconds: driver, jvm and workers -> CPU seconds. The embedded engine works in the driver's process.
        tasks: Spark's tasks; None on the embedded engine.
        stages: Spark's stages; None on the embedded engine.
        bytes_read: Bytes that scans read from files, as Spark counts them. On the embedded engine all that the process
            read, None where the system does not tell.
        waves: Number of committed waves.
        peak_mib: The most memory of driver, JVM and workers together. The JVM gives none back, so it may have needed it
            before.
    """

    seconds: float = 0.0
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    tasks: int | None = None
    stages: int | None = None
    bytes_read: int | None = None
    waves: int = 0
    peak_mib: float = 0.0

    def wave_committed(self, images: int, faces: int, failed: int) -> None:  # noqa: ARG002 - the interface
        """Counts a wave."""
        self.waves += 1

    def summary(self) -> dict[str, Any]:
        """Returns the numbers, rounded, with the sum of the CPU seconds."""
        return {
            "seconds": round(self.seconds, 1),
            "cpu_seconds": {
                "all": round(sum(self.cpu_seconds.values()), 1),
                **{part: round(value, 1) for part, value in self.cpu_seconds.items()},
            },
            "tasks": self.tasks,
            "stages": self.stages,
            "mib_read": None if self.bytes_read is None else round(self.bytes_read / 2**20, 1),
            "waves": self.waves,
            "peak_mib": round(self.peak_mib, 1),
        }


@contextmanager
def measured(events: Path | None) -> Iterator[Cost]:
    """Measures the engine while the block runs.

    Args:
        events: The folder of Spark's event log; None for the embedded engine.
    """
    cost, cpu, before = Cost(), _cpu_seconds(), _position(events)
    read, started = _bytes_read(), time.perf_counter()
    try:
        with watch_all() as memory:
            yield cost
    finally:
        cost.peak_mib = max((mib for _, mib in memory.samples), default=0.0)
        cost.seconds = time.perf_counter() - started
        # The time of a worker that was killed with its parent is lost, so a sum may be less than before.
        cost.cpu_seconds = {part: max(0.0, value - cpu.get(part, 0.0)) for part, value in _cpu_seconds().items()}
        if events is None:
            now = _bytes_read()
            cost.bytes_read = None if read is None or now is None else now - read
        else:
            stages = list(completed_stages(events, before))
            cost.stages, cost.tasks = len(stages), sum(tasks for tasks, _ in stages)
            cost.bytes_read = sum(read for _, read in stages)


def least_cpu(nights: Iterable[Cost]) -> float:
    """Returns the CPU seconds of the night that other work on the machine disturbed least."""
    return min(sum(night.cpu_seconds.values()) for night in nights)


def event_log_settings(folder: Path) -> dict[str, str]:
    """Returns the settings of a Spark session that make it write the events which `measured` counts."""
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": folder.as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
        # Spark counts the bytes that the task's own thread reads, and vectored reads of Parquet have others.
        "spark.hadoop.parquet.hadoop.vectored.io.enabled": "false",
    }


def completed_stages(events: Path, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yields the tasks and the bytes read of every completed stage in an event log.

    Args:
        events: The folder of the log.
        start: The position in the log after which to begin.
    """
    (log,) = (path for path in events.iterdir() if path.is_file())
    with log.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            if b'"SparkListenerStageCompleted"' not in line or not line.endswith(b"\n"):
                continue
            stage = json.loads(line)["Stage Info"]
            sums = {one.get("Name"): one.get("Value") for one in stage["Accumulables"]}
            yield int(stage["Number of Tasks"]), int(sums.get("internal.metrics.input.bytesRead") or 0)


def merges(table: Path, since: int = 0) -> dict[str, int]:
    """Returns how many rows and files the merges and appends of a table inserted, updated, deleted and copied.

    Args:
        table: The folder of the table.
        since: The first version that counts.
    """
    sums = dict.fromkeys(_METRICS["MERGE"], 0)
    for log in sorted((table / "_delta_log").glob("*.json")):
        if int(log.stem) < since:
            continue
        for line in log.read_bytes().splitlines():
            commit = json.loads(line).get("commitInfo", {}) if line.startswith(b'{"commitInfo"') else {}
            metrics: Mapping[str, Any] = commit.get("operationMetrics", {})
            for name, metric in _METRICS.get(commit.get("operation", ""), {}).items():
                sums[name] += int(metrics.get(metric, 0))
    return sums


def next_version(table: Path) -> int:
    """Returns the version that the next commit of a table gets."""
    return 1 + max((int(log.stem) for log in (table / "_delta_log").glob("*.json")), default=-1)


def written_per_changed_row(rows: Mapping[str, int]) -> float | None:
    """Returns the rows written per row that changed; None where none did.

    >>> written_per_changed_row({"inserted": 10, "updated": 80, "deleted": 10, "copied": 910})
    10.0
    """
    changed = rows["inserted"] + rows["updated"] + rows["deleted"]
    return round((rows["inserted"] + rows["updated"] + rows["copied"]) / changed, 2) if changed else None


def _position(events: Path | None) -> int:
    return sum(path.stat().st_size for path in events.iterdir()) if events else 0


def _cpu_seconds() -> dict[str, float]:
    """Returns the CPU seconds so far of this process, the JVM, and all other processes below this one."""
    this = psutil.Process()
    own = this.cpu_times()
    parts = {"driver": own.user + own.system, "jvm": 0.0, "workers": own.children_user + own.children_system}
    for child in this.children(recursive=True):
        try:
            part = "jvm" if child.name() == "java" else "workers"
            times = child.cpu_times()
        except psutil.Error:
            continue  # it ended, and its parent's children_user counts its time
        parts[part] += times.user + times.system
        parts["workers"] += times.children_user + times.children_system  # ended children of the JVM are workers, too
    return parts


def _bytes_read() -> int | None:
    try:
        return int(psutil.Process().io_counters().read_chars)
    except (AttributeError, psutil.Error):
        return None  # not on every system
