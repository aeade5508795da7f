"""Output tables as plain data, to compare tables of any engine cell by cell."""

import json
from typing import Any

from pyspark.sql import DataFrame

VOLATILE = {"run_id", "processed_at", "started_at", "finished_at", "images_per_second"}


def cells(table: DataFrame, *without: str) -> list[dict[str, Any]]:
    """Returns sorted rows without the columns that differ between runs, and without the given columns."""
    rows = sorted(
        (row.asDict(recursive=True) for row in table.collect()),
        key=lambda row: tuple(row.get(name) or 0 for name in ("started_at", "image_id", "face_index")),
    )
    return [
        {name: _plain(name, value) for name, value in row.items() if name not in VOLATILE | set(without)}
        for row in rows
    ]


def _plain(name: str, value: Any) -> Any:
    # Tables of several engines are compared, so the engine is left out of the recorded configuration.
    if name == "config":
        return {section: keys for section, keys in json.loads(value).items() if section != "engine"}
    return value
