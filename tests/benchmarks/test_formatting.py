import json
from pathlib import Path

import pytest

from faceattr_udf.benchmarks.formatting import markdown_table

RECORDED = Path(__file__).parents[2] / "docs" / "performance"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("measurements_avx512.json", 50),
        ("measurements_avx2.json", 4),
    ],
)
def test_recorded_measurements_can_be_formatted(name: str, rows: int) -> None:
    table = markdown_table(json.loads((RECORDED / name).read_text(encoding="utf-8")))
    assert table.count("\n|") == rows + 2
