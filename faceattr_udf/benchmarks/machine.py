"""Measures and describes the machine, so that benchmarks of different machines can be compared."""

import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

_SIDE = 2048
_REPEATS = 5
_PACKAGES = (
    *("numpy", "opencv-python-headless", "openvino", "facenet-pytorch", "torch"),
    *("pyspark", "delta-spark", "pysail"),
)


@contextmanager
def one_core() -> Iterator[None]:
    """Restricts this process to one core and one thread, including BLAS, OpenCV and torch."""
    import torch  # noqa: PLC0415 - the baselines' runtime; heavy to load

    threads, allowed = torch.get_num_threads(), _cores()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if allowed and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(allowed)})
    try:
        with threadpool_limits(1):
            yield
    finally:
        if allowed and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)
        cv2.setNumThreads(-1)


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def gemm_rate() -> float:
    """Measures the rate of float32 matrix multiplication with one thread, in floating-point operations per second.

    The rate is the median of five products. A float32 network cannot multiply faster, so its multiply-adds divided by
    this rate are the lower limit of its time.
    """
    random = np.random.default_rng(0)
    left, right = (random.random((_SIDE, _SIDE), dtype=np.float32) for _ in range(2))
    seconds = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2.0 * _SIDE**3 / statistics.median(seconds[1:])


def parallel_speedup(processes: int) -> float:
    """Measures the parallel speed-up of the machine: the matrix-multiplication rate of N processes relative to one.

    Cores share their clock, memory and sometimes more, so no program scales better than this.

    Args:
        processes: N.
    """
    alone, together = (
        statistics.median(sum(_rates_at_once(count)) for _ in range(_REPEATS)) for count in (1, processes)
    )
    return together / alone


def _rates_at_once(processes: int) -> list[float]:
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        # The first call waits for all processes to start, so that the second measures them at the same time.
        pool.map(_limited_rate, range(processes), chunksize=1)
        return pool.map(_limited_rate, range(processes), chunksize=1)


def _limited_rate(_: int) -> float:
    with threadpool_limits(1):
        return gemm_rate()


def describe() -> dict[str, Any]:
    """Returns processor, cores, system, Python and package versions; nothing that identifies the owner."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _installed(name))},
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
