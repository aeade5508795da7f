"""The real jobs in processes of their own, killed at any moment; what they leave is right after the next run."""

import os
import random
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from kill_nights import POINTS, Night, kill, read, write_images
from process_groups import ROOT, Job

from faceattr_udf.config import Config
from faceattr_udf.spark.session import start

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


def _until(job: Job, holds: Callable[[], bool]) -> None:
    while job.running and not holds():
        time.sleep(0.002)


def test_run_killed_repeatedly_equals_an_undisturbed_one(nights: tuple[Night, Night], tmp_path: Path) -> None:
    yesterday, calm = nights
    night = yesterday.copy(tmp_path / "night")
    for point in ("staged:1", "faces:1"):
        assert night.job(die=point).wait() == -SIGKILL
    chance = random.Random(7)  # noqa: S311
    how = [kill(night, chance, seconds=3.0) for _ in range(3)]
    assert night.job().wait() == 0, how
    assert night.wrongs(calm) == []
    assert max(night.repeated()) <= night.wave_images
    assert night.job().wait() == 0
    assert night.lines("seen", night.attempts) == []


@pytest.mark.spark
def test_run_on_spark_survives_the_death_of_its_jvm_and_of_a_worker(
    nights: tuple[Night, Night], tmp_path: Path
) -> None:
    yesterday, calm = nights
    night = yesterday.copy(tmp_path / "night")
    night.engine, night.slow = "spark", 0.5
    # The JVM alone, between the two commits of a wave: the job ends with a sentence.
    job = night.job(settings=("enrich.wave_retries=1",))
    _until(job, lambda: "faces" in night.lines("passed", 1))
    assert job.kill("jvm")
    assert job.wait() == 2, job.text()
    assert "enrich: the engine failed (" in job.text()
    assert "run it again and it continues" in job.text()
    # A Python worker while it infers: the night survives.
    job = night.job()
    _until(job, lambda: bool(night.lines("seen", 2)))
    os.kill(int(night.lines("seen", 2)[0].split()[1]), SIGKILL)
    assert job.wait() == 0, job.text()
    assert night.wrongs(calm) == []
    assert 0 < max(night.repeated()) <= 2 * night.wave_images  # the first run's wave, and the task of the dead worker


def test_comparison_detects_the_traces_of_a_kill(nights: tuple[Night, Night], tmp_path: Path) -> None:
    yesterday, calm = nights
    night = yesterday.copy(tmp_path / "night")
    assert night.wrongs(yesterday) == []
    found = night.wrongs(calm)
    assert [text.split(":")[0] for text in found[:2]] == ["faces", "image_results"]
    killed = night.job(die="staged:2")
    assert killed.wait() != 0
    assert "_staging is left" in night.wrongs(calm)
    assert "_lease is left" in night.wrongs(calm)
    assert any("running" in text for text in night.wrongs(calm))
    assert set(POINTS) >= set(night.lines("passed", 1))


def _near(value: Any) -> Any:
    """Equal but for what batches of another size do to the last digits."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-3, abs=1e-3)
    if isinstance(value, dict):
        return {key: _near(inner) for key, inner in value.items()}
    return [_near(inner) for inner in value] if isinstance(value, list) else value


def test_the_job_with_the_real_cascade_killed_while_it_infers(tmp_path: Path, demo_photos: Path) -> None:
    photos = sorted(demo_photos.glob("*.*"))[:6]
    rows = [
        {"image_id": path.name, "content": path.read_bytes(), "content_sha256": sha256(path.read_bytes()).hexdigest()}
        for path in photos
    ]
    write_images([row | {"path": None} for row in rows], tmp_path / "images")

    def job(out: str, name: str) -> Job:
        arguments = ["-m", "jobs.enrich", "--images", str(tmp_path / "images"), "--output", str(tmp_path / out)]
        return Job([*arguments, "--set", "enrich.wave_images=2"], tmp_path / "logs" / name)

    assert job("calm", "calm").wait() == 0
    for waves in (1, 2):
        killed = job("killed", f"killed_{waves}")
        staging = tmp_path / "killed" / "_staging"
        # os.walk, unlike glob, bears that the job removes what the one before it staged.
        _until(killed, lambda: any(f"wave_{waves - 1}" in folders for _, folders, _ in os.walk(staging)))  # noqa: B023
        killed.kill()
    assert job("killed", "last").wait() == 0
    for name in ("faces", "image_results"):
        found, right = (read(tmp_path / out / name) for out in ("killed", "calm"))
        assert found == _near(right)
    assert len(found) == len(photos)
    states = start(Config()).read.format("delta").load(str(tmp_path / "killed" / "runs")).orderBy("started_at")
    assert [row.state for row in states.collect()] == ["interrupted", "interrupted", "completed"]


def _ingest(folder: Path, form: str, attempt: int) -> Job:
    arguments = [str(ROOT / "tests" / "robustness" / "night_process.py"), "ingest", "--seen", "/dev/null"]
    arguments += ["--passed", "/dev/null", "--", "--input", str(folder / "photos"), "--images", str(folder / "images")]
    arguments += ["--format", form]
    return Job(arguments, folder / f"log_{attempt}")


def _parquet_files(folder: Path) -> int:
    return sum(name.endswith(".parquet") for _, _, names in os.walk(folder) for name in names)


@pytest.mark.parametrize(
    "form",
    ["delta", "parquet"],
)
def test_an_ingestion_killed_at_any_moment(tmp_path: Path, form: str) -> None:
    kills = 2
    photos, images = tmp_path / "photos", tmp_path / "images"
    photos.mkdir()
    chance = random.Random(3)  # noqa: S311
    seen = 0
    for attempt in range(kills):
        for index in range(40):
            # Every time some pictures are new and others changed.
            if index % kills <= attempt:
                (photos / f"{index}.jpg").write_bytes(chance.randbytes(400))
        job = _ingest(tmp_path, form, attempt)
        # Its first file is the sign that it writes; the process takes most of its time to start.
        _until(job, lambda: _parquet_files(images) > seen)  # noqa: B023
        job.kill()
        seen = _parquet_files(images) + chance.randint(0, 2)
    last = _ingest(tmp_path, form, kills)
    assert last.wait() == 0, last.text()
    rows = start(Config()).read.format(form).load(str(images)).collect()
    assert sorted((row.image_id, bytes(row.content)) for row in rows) == sorted(
        (path.name, path.read_bytes()) for path in photos.iterdir()
    )
    assert all(row.content_sha256 == sha256(row.content).hexdigest() for row in rows)
    assert not [path for path in images.glob("_*") if path.name != "_delta_log"]
