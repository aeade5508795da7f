"""The benchmark runs and finds the same faces as its peer; how fast it was is not looked at."""

import json
import shutil
from pathlib import Path

import pytest

from faceattr_udf.benchmarks import gpu
from jobs import benchmark


@pytest.fixture
def photos(tmp_path: Path, demo_photos: Path) -> Path:
    """Three photographs with seven faces."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut.png", "group/five_friends.jpg", "portrait.jpg"):
        shutil.copy(demo_photos / name, folder)
    return folder


@pytest.mark.slow
def test_the_benchmark_finds_the_faces_of_its_peer(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    arguments = ["--photos", str(photos), "--rounds", "2", "--json", str(out)]
    arguments += ["--sections", "detection", "analysis", "network"]
    assert benchmark.main(arguments) == 0
    figures = json.loads(out.read_text())
    same = figures["detection"]["same_faces"]
    assert same["pairs"] == same["faces"] == 7
    assert figures["analysis"]["faces"] == same["faces"]
    assert figures["detection"]["against_limit"] > 0
    table = capsys.readouterr().out
    assert "| detection, per photograph |" in table
    assert "| attribute network, per face |" in table


@pytest.mark.slow
def test_the_engines_find_the_faces_of_a_bare_loop(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    arguments = ["--photos", str(photos), "--rounds", "1", "--json", str(out)]
    # A process alone sees a sixth of the table, which is each photograph once, and two see a half.
    rows = str(6 * len(list(photos.iterdir())))
    arguments += ["--sections", "engines", "growth", "--engines", "sail", "--rows", rows, "--sizes", "6"]
    assert benchmark.main(arguments) == 0
    figures = json.loads(out.read_text())
    faces = figures["engines"]["faces"]
    assert figures["engines"]["matrix_products_of_two_processes_against_one"] > 0
    assert 6 * faces["bare_1"] == 2 * faces["bare_2"] == faces["sail"] == 6 * 7
    runs = figures["growth"]["sail"]["by_rows"]
    assert (runs["6"]["images"], runs["6"]["inferred"], runs["6"]["second_run"]["images"]) == (6, 6, 0)
    for run in runs.values():
        tables = run["compaction"]["tables"]
        assert set(tables) == {"faces", "image_results", "runs"}
        assert all(0 < after["files"] <= before["files"] for before, after in tables.values())
    assert "| the whole job on sail, per photograph |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_gpu_is_compared_with_a_core(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch on the CPU stands for a GPU, which this machine need not have.
    monkeypatch.setattr(gpu, "DEVICE", "cpu:0")
    monkeypatch.setattr(gpu, "FACES", (2, 4))
    monkeypatch.setattr(gpu.torch.cuda, "get_device_name", lambda _: "no GPU")
    out = tmp_path / "figures.json"
    arguments = ["--photos", str(photos), "--rounds", "1", "--json", str(out)]
    assert benchmark.main([*arguments, "--sections", "gpu"]) == 0
    same = json.loads(out.read_text())["gpu"]["same"]
    assert same["pairs"] == same["faces"] == 7
    assert same["equal"] >= 0.9 * same["pairs"]
    assert "| attribute network on it, per face, 4 together |" in capsys.readouterr().out


def test_a_gpu_that_is_not_there_is_no_traceback(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "DEVICE", "cuda:99")
    assert benchmark.main(["--photos", str(photos), "--sections", "gpu"]) == 2
    assert "cuda:99 is not among them" in capsys.readouterr().err


def test_a_folder_without_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--photos", str(tmp_path)]) == 2
    assert "no photographs * in" in capsys.readouterr().err
