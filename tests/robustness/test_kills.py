"""Kills the jobs at random moments and between commits; the next run must repair the tables."""

import os
import random
import re
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from kill_erasures import play_round, prepare
from kill_runs import KILL_STEPS, RunFolder, read_rows, run_and_kill, write_images
from process_groups import ROOT, JobProcess

from faceattr_udf.config import Config
from faceattr_udf.spark.session import start

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


def _wait_until(job: JobProcess, condition: Callable[[], bool]) -> None:
    while job.running and not condition():
        time.sleep(0.002)


def test_run_killed_repeatedly_equals_an_undisturbed_one(
    prepared_runs: tuple[RunFolder, RunFolder], tmp_path: Path
) -> None:
    first, expected = prepared_runs
    runs = first.copy(tmp_path / "runs")
    for step in ("staged:1", "faces:1"):
        assert runs.start_run(kill_at=step).wait() == -SIGKILL
    chance = random.Random(7)  # noqa: S311
    kills = [run_and_kill(runs, chance, run_seconds=3.0) for _ in range(3)]
    assert runs.start_run().wait() == 0, kills
    assert runs.differences(expected) == []
    # A kill loses the wave that is inferred and the one that is committed.
    assert max(runs.repeated_inferences()) <= 2 * runs.wave_images
    assert runs.start_run().wait() == 0
    assert runs.inferred(runs.attempts) == []


def test_erasure_killed_repeatedly_ends_right(tmp_path: Path) -> None:
    erasing = prepare(tmp_path / "erasing", "sail", images=20)
    done, wrong = play_round(erasing, random.Random(3), kills=3, seconds=3.0)  # noqa: S311
    assert len(done) == 3
    assert wrong == []


@pytest.mark.spark
def test_spark_run_survives_a_killed_jvm_and_a_killed_worker(
    prepared_runs: tuple[RunFolder, RunFolder], tmp_path: Path
) -> None:
    first, expected = prepared_runs
    runs = first.copy(tmp_path / "runs")
    runs.engine, runs.batch_seconds = "spark", 0.5
    # The JVM is killed between the two commits of a wave: the job ends with an error message.
    job = runs.start_run(settings=("enrich.wave_retries=1",))
    _wait_until(job, lambda: "faces" in runs.steps(1))
    assert job.kill("jvm")
    assert job.wait() == 2, job.output()
    assert re.search(r"^enrich: the (engine|run) failed \(", job.output(), re.MULTILINE)
    assert "run it again to continue" in job.output()
    # A Python worker is killed during inference: the run continues.
    job = runs.start_run()
    _wait_until(job, lambda: bool(runs.inferred(2)))
    os.kill(runs.inferred(2)[0][1], SIGKILL)
    assert job.wait() == 0, job.output()
    assert runs.differences(expected) == []
    # Two waves of the first run and the task of the killed worker are inferred again.
    assert 0 < max(runs.repeated_inferences()) <= 3 * runs.wave_images


def test_comparison_detects_the_traces_of_a_kill(prepared_runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    first, expected = prepared_runs
    runs = first.copy(tmp_path / "runs")
    assert runs.differences(first) == []
    found = runs.differences(expected)
    assert [text.split(":")[0] for text in found[:2]] == ["faces", "image_results"]
    killed = runs.start_run(kill_at="staged:2")
    assert killed.wait() != 0
    assert "_staging is left" in runs.differences(expected)
    assert "_lease is left" in runs.differences(expected)
    assert any("running" in text for text in runs.differences(expected))
    assert set(KILL_STEPS) >= set(runs.steps(1))


def _approximately(value: Any) -> Any:
    """Allows for rounding differences between batches of different sizes."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-3, abs=1e-3)
    if isinstance(value, dict):
        return {key: _approximately(inner) for key, inner in value.items()}
    return [_approximately(inner) for inner in value] if isinstance(value, list) else value


def test_job_with_real_networks_killed_during_inference(tmp_path: Path, demo_photos: Path) -> None:
    photos = sorted(demo_photos.glob("*.*"))[:6]
    rows = [
        {"image_id": path.name, "content": path.read_bytes(), "content_sha256": sha256(path.read_bytes()).hexdigest()}
        for path in photos
    ]
    write_images([row | {"path": None} for row in rows], tmp_path / "images")

    def start_job(output: str, log: str) -> JobProcess:
        arguments = ["-m", "jobs.enrich", "--images", str(tmp_path / "images"), "--output", str(tmp_path / output)]
        return JobProcess([*arguments, "--set", "enrich.wave_images=2"], tmp_path / "logs" / log)

    assert start_job("expected", "expected").wait() == 0
    for waves in (1, 2):
        killed = start_job("killed", f"killed_{waves}")
        staging = tmp_path / "killed" / "_staging"
        # os.walk, unlike glob, tolerates that the job removes the staging of the one before it.
        _wait_until(killed, lambda: any(f"wave_{waves - 1}" in folders for _, folders, _ in os.walk(staging)))  # noqa: B023
        killed.kill()
    assert start_job("killed", "last").wait() == 0
    for name in ("faces", "image_results"):
        found, expected = (read_rows(tmp_path / output / name) for output in ("killed", "expected"))
        assert found == _approximately(expected)
    assert len(found) == len(photos)
    states = start(Config()).read.format("delta").load(str(tmp_path / "killed" / "runs")).orderBy("started_at")
    assert [row.state for row in states.collect()] == ["interrupted", "interrupted", "completed"]


def _start_ingestion(folder: Path, table_format: str, attempt: int) -> JobProcess:
    arguments = [str(ROOT / "tests" / "robustness" / "run_process.py"), "ingest", "--inferred", "/dev/null"]
    arguments += ["--steps", "/dev/null", "--", "--input", str(folder / "photos"), "--images", str(folder / "images")]
    arguments += ["--format", table_format]
    return JobProcess(arguments, folder / f"log_{attempt}")


def _parquet_files(folder: Path) -> int:
    return sum(name.endswith(".parquet") for _, _, names in os.walk(folder) for name in names)


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_ingestion_killed_while_it_writes(tmp_path: Path, table_format: str) -> None:
    kills = 2
    photos, images = tmp_path / "photos", tmp_path / "images"
    photos.mkdir()
    chance = random.Random(3)  # noqa: S311
    seen = 0
    for attempt in range(kills):
        for index in range(40):
            # Every attempt finds some new and some changed images.
            if index % kills <= attempt:
                (photos / f"{index}.jpg").write_bytes(chance.randbytes(400))
        job = _start_ingestion(tmp_path, table_format, attempt)
        # Its first file shows that it writes; starting takes most of the time.
        _wait_until(job, lambda: _parquet_files(images) > seen)  # noqa: B023
        job.kill()
        seen = _parquet_files(images) + chance.randint(0, 2)
    last = _start_ingestion(tmp_path, table_format, kills)
    assert last.wait() == 0, last.output()
    rows = start(Config()).read.format(table_format).load(str(images)).collect()
    assert sorted((row.image_id, bytes(row.content)) for row in rows) == sorted(
        (path.name, path.read_bytes()) for path in photos.iterdir()
    )
    assert all(row.content_sha256 == sha256(row.content).hexdigest() for row in rows)
    assert not [path for path in images.glob("_*") if path.name != "_delta_log"]
