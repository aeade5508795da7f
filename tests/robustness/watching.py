"""What both commands need: the photographs, what a run costs and says on stderr, and how its figures are told."""

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
from jobs.demo_photos import WHEELS, fetch

PHOTOS: Final = Path(__file__).resolve().parents[2] / "demo" / "photos"
"""Where `make demo` puts its photographs."""

TOLERANCE: Final = 0.01
"""Relative. A network's sums depend in their last bits on how many faces it sees at once, and where one is about to be
rounded, to a whole pixel or to 8 bits, the next network sees a difference."""


def photographs(folder: Path) -> list[Path]:
    """The demo's photographs, fetched where they are missing."""
    return fetch(WHEELS, folder, PHOTOS.parents[1] / ".cache" / "wheels")


@contextmanager
def quiet_stderr() -> Iterator[list[str]]:
    """Takes what this process, its native libraries and its children write to stderr; the list has it afterwards."""
    lines: list[str] = []
    sys.stderr.flush()
    kept, shown = os.dup(2), sys.stderr
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = io.TextIOWrapper(io.FileIO(os.dup(2), "w"), line_buffering=True)
        try:
            yield lines
        finally:
            sys.stderr.close()
            sys.stderr = shown
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines.extend(file.read().decode(errors="replace").splitlines())


def resident_mib(field: str = "VmRSS") -> float:
    """Of this process; with "VmHWM" the most that it ever was."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def circumstances() -> dict[str, Any]:
    """The date, the machine and the versions of the decoders."""
    machine = describe()
    machine["packages"] |= {name: version(name) for name in ("pillow", "pyspark", "pysail")}
    return {"date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), "machine": machine}


def difference(one: Any, other: Any) -> float:
    """The largest relative difference between the numbers in two nested results; infinite where anything else differs.

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
            apart = abs(one - other) / max(1.0, abs(one))
            return apart if math.isfinite(apart) else math.inf
    return 0.0 if type(one) is type(other) and one == other else math.inf


def report(figures: dict[str, Any], wrong: Sequence[str], path: Path | None) -> int:
    """Prints figures and complaints, writes the figures, and returns the exit code."""
    text = json.dumps({**circumstances(), **figures, "wrong": len(wrong)}, indent=2)
    print(text)
    print("\n".join(wrong[:100]))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return 1 if wrong else 0
