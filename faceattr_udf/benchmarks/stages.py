"""Times of the networks within an analysis."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

from faceattr_udf.arrays import Float32Array
from faceattr_udf.inference.openvino_backend import OpenVinoModel


@contextmanager
def stage_times() -> Iterator[Counter[str]]:
    """Measures the networks of this process while the block runs.

    Yields:
        Name of a network, as in its record -> nanoseconds of CPU time spent in it; filled while the block runs.
    """
    spent: Counter[str] = Counter()
    run = OpenVinoModel.__call__

    def timed(self: OpenVinoModel, *inputs: npt.NDArray[Any]) -> list[Float32Array]:
        started = time.process_time_ns()
        try:
            return run(self, *inputs)
        finally:
            spent[self.record.name] += time.process_time_ns() - started

    OpenVinoModel.__call__ = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        OpenVinoModel.__call__ = run  # type: ignore[method-assign]
