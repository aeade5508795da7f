"""The benchmark runs and finds the same faces as its peer; how fast it was is not looked at."""

import json
from pathlib import Path

import pytest
from shared_data import SHARED, needs_shared

from jobs import benchmark


@needs_shared
def test_the_benchmark_finds_the_faces_of_its_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    arguments = ["--photos", str(SHARED / "photos"), "--pattern", "maks*", "--rounds", "2", "--json", str(out)]
    assert benchmark.main(arguments) == 0
    figures = json.loads(out.read_text())
    same = figures["detection"]["same_faces"]
    assert same["faces"] > 20
    assert same["pairs"] >= 0.99 * same["faces"]
    assert figures["analysis"]["faces"] == same["faces"]
    assert figures["detection"]["against_limit"] > 0
    table = capsys.readouterr().out
    assert "| detection, per photograph |" in table
    assert "| attribute network, per face |" in table


def test_a_folder_without_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--photos", str(tmp_path)]) == 2
    assert "no photographs * in" in capsys.readouterr().err
