"""The training log: one JSON object per line, shown while training and kept beside the weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Log = Callable[[dict[str, Any]], None]
"""Receives the metrics of one step, validation or trial."""

_RECORDED_STEPS = 24


def json_lines_log(file: Path, show: Callable[[str], None]) -> Log:
    """Returns a log that shows every entry as a line of JSON and appends it to a file."""

    def log(metrics: dict[str, Any]) -> None:
        line = json.dumps(metrics)
        show(line)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    return log


def summarize_log(file: Path) -> list[dict[str, Any]]:
    """Returns about 24 evenly spaced steps of a log, including the last, and all other entries, for the record."""
    if not file.exists():
        return []
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "step" in line]
    others = [line for line in lines if "step" not in line and "resumed_at_step" not in line]
    stride = max(1, len(steps) // _RECORDED_STEPS)
    kept = [{k: v for k, v in line.items() if k != "faces_per_s"} for line in steps[::-1][::stride][::-1]]
    return kept + others
