"""Measures a run's memory and stderr, compares its results and reports them; shared by the commands in this folder."""

import datetime
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from faceattr_udf.benchmarks.machine import describe

TOLERANCE: Final = 0.01
"""Relative. The last bits of a network's sums depend on the number of faces in its batch; where such a value is rounded
to a whole pixel or to 8 bits, the next network sees a larger difference."""


@contextmanager
def capture_stderr() -> Iterator[list[str]]:
    """Captures the stderr of this process, its native libraries and its children; fills the list at the end."""
    lines: list[str] = []
    sys.stderr.flush()
    saved_descriptor, saved_stderr = os.dup(2), sys.stderr
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = io.TextIOWrapper(io.FileIO(os.dup(2), "w"), line_buffering=True)
        try:
            yield lines
        finally:
            sys.stderr.close()
            sys.stderr = saved_stderr
            os.dup2(saved_descriptor, 2)
            os.close(saved_descriptor)
            file.seek(0)
            lines.extend(file.read().decode(errors="replace").splitlines())


def resident_mib(field: str = "VmRSS") -> float:
    """Returns the resident memory of this process now, or its peak with "VmHWM"."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def environment() -> dict[str, Any]:
    """Returns the date, the machine and the versions of the decoders and engines."""
    machine = describe()
    machine["packages"] |= {name: version(name) for name in ("pillow", "pyspark", "pysail")}
    return {"date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), "machine": machine}


def difference(one: Any, other: Any) -> float:
    """Returns the largest relative difference between numbers of two nested results; inf if anything else differs.

    >>> difference({"age": 30.0, "gender": "female"}, {"age": 33.0, "gender": "female"})
    0.1
    """
    match one, other:
        case dict(), dict() if one.keys() == other.keys():
            return max((difference(one[key], other[key]) for key in one), default=0.0)
        case (list() | tuple(), list() | tuple()) if len(one) == len(other):
            return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
        case np.ndarray(), np.ndarray():
            return difference(one.tolist(), other.tolist())
        case float(), float():
            relative = abs(one - other) / max(1.0, abs(one))
            return relative if math.isfinite(relative) else math.inf
    return 0.0 if type(one) is type(other) and one == other else math.inf


def report(measurements: dict[str, Any], errors: Sequence[str], path: Path | None) -> int:
    """Prints measurements and errors, writes the measurements, and returns the exit code."""
    text = json.dumps({**environment(), **measurements, "wrong": len(errors)}, indent=2)
    print(text)
    print("\n".join(errors[:100]))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return 1 if errors else 0
