"""The benchmark runs, and finds the same faces as its baselines. The times themselves are not tested."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from faceattr_udf.cli import benchmark


@pytest.fixture
def photos(tmp_path: Path, demo_photos: Path) -> Path:
    """Three photographs with seven faces."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut.png", "group/five_friends.jpg", "portrait.jpg"):
        shutil.copy(demo_photos / name, folder)
    return folder


@pytest.mark.slow
def test_detectors_find_the_same_faces(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "measurements.json"
    arguments = ["--photos", str(photos), "--rounds", "2", "--json", str(out)]
    arguments += ["--sections", "detection", "analysis", "web", "network", "--web-photographs", "1"]
    assert benchmark.main(arguments) == 0
    measurements = json.loads(out.read_text())
    same = measurements["detection"]["same_faces"]
    assert same["pairs"] == same["faces"] == 7
    assert measurements["analysis"]["faces"] == same["faces"]
    assert measurements["detection"]["against_limit"] > 0
    classes = measurements["web"]["classes"]
    assert list(classes)[-1] == "all sizes"
    for measured in classes.values():
        assert min(measured["milliseconds_per_photograph"][name]["min"] for name in ("ours", "our_detection")) > 0
        assert measured["stages_milliseconds"]["mtcnn_pnet"] > 0
        assert abs(measured["faces"]["ours"] - measured["faces"]["facenet_pytorch_detection"]) <= 1
    assert measurements["web"]["memory_mib"] > 100
    table = capsys.readouterr().out
    assert "| all sizes: detection alone |" in table
    assert "| detection, per photograph |" in table
    assert "| attribute network, per face |" in table


@pytest.mark.slow
def test_engines_and_processes_find_the_same_faces(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "measurements.json"
    arguments = ["--photos", str(photos), "--rounds", "1", "--json", str(out)]
    # One process gets a sixth of the table, which is each photograph once, and two processes get a half.
    rows = str(6 * len(list(photos.iterdir())))
    arguments += ["--sections", "engines", "scaling", "--engines", "sail", "--rows", rows, "--sizes", "6"]
    assert benchmark.main(arguments) == 0
    measurements = json.loads(out.read_text())
    faces = measurements["engines"]["faces"]
    assert measurements["engines"]["matrix_products_of_two_processes_against_one"] > 0
    assert 6 * faces["multiprocessing_1"] == 2 * faces["multiprocessing_2"] == faces["sail"] == 6 * 7
    runs = measurements["scaling"]["sail"]["by_rows"]
    assert (runs["6"]["images"], runs["6"]["inferred"], runs["6"]["second_run"]["images"]) == (6, 6, 0)
    assert runs["6"]["worker_memory"]["peak_mib"] > 50
    for run in runs.values():
        tables = run["compaction"]["tables"]
        assert set(tables) == {"faces", "image_results", "runs"}
        assert all(0 < after["files"] <= before["files"] for before, after in tables.values())
    assert "| enrich job on sail, per photograph |" in capsys.readouterr().out


def nights_without_models(engine_name: str, out: Path, *sections: str) -> dict[str, Any]:
    """Runs the benchmark in a process of its own: Spark writes its events only if it starts so."""
    arguments = ["--sections", *sections, "--engines", engine_name, "--images", "100", "--json", str(out)]
    command = [sys.executable, "-m", "jobs.benchmark", *arguments]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)  # noqa: S603 - our own interpreter and code
    measured: dict[str, Any] = json.loads(out.read_text())
    assert "gemm_gflops" not in measured["machine"]
    nights = measured["engine"][engine_name]
    first, nothing, changed, new = (nights[name] for name in ("first night", "nothing new", "1 % changed", "1 % new"))
    assert (first["images"], nothing["images"], changed["images"], new["images"]) == (100, 0, 1, 1)
    assert (first["waves"], nothing["waves"], changed["waves"], new["waves"]) == (1, 0, 1, 1)
    rows = {name: night["rows"]["image_results"] for name, night in nights.items()}
    assert (rows["first night"]["inserted"], rows["1 % changed"]["updated"], rows["1 % new"]["inserted"]) == (100, 1, 1)
    assert min(first["cpu_seconds"]["all"], first["peak_mib"]) > 0
    return measured


def test_nights_without_models_are_measured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    measured = nights_without_models("sail", tmp_path / "measurements.json", "engine", "consent")
    nights = measured["consent"]["sail"]
    assert len(nights["nothing new, with consents"]) == len(nights["nothing new, without consents"]) == 3
    assert nights["cpu_of_a_night_with_consents"] > 0
    out = capfd.readouterr().out
    assert "| sail, 100 images: nothing new |" in out
    assert "with consents against without" in out


@pytest.mark.slow
@pytest.mark.spark
def test_nights_on_spark_are_measured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    measured = nights_without_models("spark", tmp_path / "measurements.json", "engine", "layout", "updates")
    night = measured["layout"]["spark"]["without order"]
    assert night["waves"] == 13  # ten images at most: two of the 25 files
    assert min(night["tasks"], night["cpu_seconds"]["jvm"]) > 0
    assert night["times_the_table"] > 0.9  # every content was read
    written = {
        variant: measured["updates"][variant]["night 3"]["rows_written_per_changed_row"]["image_results"]
        for variant in ("spark", "spark, deletion vectors")
    }
    assert written["spark, deletion vectors"] == 1.0
    assert written["spark"] > 2
    assert "| spark, deletion vectors, 100 images: night 3 |" in capfd.readouterr().out


def test_photographs_are_asked_for_where_they_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--sections", "engine", "analysis"]) == 2
    assert "--photos is missing; name a folder of photographs, or only sections of engine" in capsys.readouterr().err


def test_folder_without_photographs_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--photos", str(tmp_path)]) == 2
    assert "no photographs * in" in capsys.readouterr().err
