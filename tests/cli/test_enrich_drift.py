"""The line about drift at the end of `faceattr enrich`."""

import json
from pathlib import Path

import pytest
from conftest import Engine

from faceattr_udf.cli.enrich import main


@pytest.fixture
def arguments(sail_engine: Engine, tmp_path: Path) -> list[str]:
    images = sail_engine.frame([("a", b"no picture")], "image_id string, content binary")
    images.write.format("delta").save(str(tmp_path / "images"))
    return ["--images", str(tmp_path / "images"), "--output", str(tmp_path / "out"), "--json", str(tmp_path / "told")]


def test_run_of_some_size_is_judged(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--set", "drift.min_faces=1"]) == 0
    assert "drift: not judged, only 0 of 7 quiet nights before it" in capsys.readouterr().out
    told = json.loads((tmp_path / "told").read_text())
    assert told["drift"]["run_id"] == told["run_id"]
    assert (tmp_path / "out" / "drift").exists()


@pytest.mark.parametrize("settings", [[], ["--set", "drift.min_faces=1", "--set", "drift.after_enrich=false"]])
def test_small_or_unwanted_judgement_is_left_out(
    arguments: list[str], settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *settings]) == 0
    assert "drift" not in capsys.readouterr().out
    assert json.loads((tmp_path / "told").read_text())["drift"] is None
    assert not (tmp_path / "out" / "drift").exists()


def test_run_is_complete_where_drift_fails(
    arguments: list[str], sail_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sail_engine.frame([(1,)], "other int").write.format("delta").save(str(tmp_path / "out" / "drift"))
    assert main([*arguments, "--set", "drift.min_faces=1"]) == 0
    assert "drift: not judged (" in capsys.readouterr().out
    assert json.loads((tmp_path / "told").read_text())["state"] == "completed"
