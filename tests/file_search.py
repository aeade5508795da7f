"""Searches files for texts without the code under test: also for parts of what they hold."""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq


def files_that_hold(folders: Iterable[Path], needles: Iterable[str]) -> list[Path]:
    """Returns the files below some folders that hold a text, in Parquet files also as a value or a statistic."""
    wanted = [needle.replace("\\", "") for needle in needles]
    found = []
    for file in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        text = file.read_bytes().decode("utf-8", "replace")
        if file.suffix == ".parquet":
            text += json.dumps(pq.read_table(file).to_pylist(), default=str, ensure_ascii=False)
            text += str(pq.read_metadata(file).to_dict())
        plain = text.replace("\\", "")
        if any(needle in plain for needle in wanted):
            found.append(file)
    return found
