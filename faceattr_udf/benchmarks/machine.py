"""What the machine can do at all: the yardstick that makes figures of different machines comparable."""

import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

_SIDE = 2048
_REPEATS = 5
_PACKAGES = ("numpy", "opencv-python-headless", "openvino", "facenet-pytorch", "torch")


@contextmanager
def one_core() -> Iterator[None]:
    """Everything inside runs on one core with one thread: BLAS, OpenCV, torch and this process as a whole."""
    import torch  # noqa: PLC0415 - the peers' runtime; heavy to load

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
    """Floating-point operations per second of a product of two matrices of float32, one thread, the median of five.

    A network cannot multiply faster than this in float32, so multiply-adds over this rate are the limit of float32.
    """
    random = np.random.default_rng(0)
    left, right = (random.random((_SIDE, _SIDE), dtype=np.float32) for _ in range(2))
    seconds = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2.0 * _SIDE**3 / statistics.median(seconds[1:])


def gain_of_processes(processes: int) -> float:
    """How many times what one process multiplies several do that run at once: what the machine itself allows.

    Cores share their clock, their memory and perhaps more with a neighbour; no program scales better than this.

    Args:
        processes: How many.
    """
    alone, together = (
        statistics.median(sum(_rates_at_once(count)) for _ in range(_REPEATS)) for count in (1, processes)
    )
    return together / alone


def _rates_at_once(processes: int) -> list[float]:
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        # Only where all are up does all of their work coincide.
        pool.map(_limited_rate, range(processes), chunksize=1)
        return pool.map(_limited_rate, range(processes), chunksize=1)


def _limited_rate(_: int) -> float:
    with threadpool_limits(1):
        return gemm_rate()


def describe() -> dict[str, Any]:
    """Processor, cores, Python and the versions that matter; nothing that names the machine's owner."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
