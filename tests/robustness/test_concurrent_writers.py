"""Several jobs at the same tables at once, in processes of their own: no row is lost, doubled or stale."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from kill_nights import Night, pictures, write_images
from process_groups import ROOT, Job

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


def _until(job: Job, holds: Callable[[], bool]) -> None:
    while job.running and not holds():
        time.sleep(0.01)


def _one_refused(jobs: list[Job]) -> None:
    codes = [job.wait() for job in jobs]
    assert sorted(codes) == [0, 2], [job.text() for job in jobs]
    (refusal,) = (line for line in jobs[codes.index(2)].text().splitlines() if line.startswith("enrich: "))
    assert "out is being written by run 2" in refusal
    assert refusal.endswith("wait until that has ended and run this again")


@pytest.mark.spark
def test_two_runs_on_spark_and_a_compaction(nights: tuple[Night, Night], tmp_path: Path) -> None:
    yesterday, calm = nights
    night = yesterday.copy(tmp_path / "night")
    night.engine, night.slow = "spark", 1.0
    jobs = [night.job(), night.job()]
    compacted = 0
    while any(job.running for job in jobs):
        for name in ("faces", "image_results"):
            try:
                DeltaTable(night.out / name).optimize.compact()
                compacted += 1
            except CommitFailedError:
                pass  # the run's commit came first: compaction may lose, the run not
        time.sleep(0.5)
    _one_refused(jobs)
    assert compacted > 0
    assert night.wrongs(calm) == []
    assert max(night.repeated()) == 0


def test_refused_run_finishes_the_rest_later(nights: tuple[Night, Night], tmp_path: Path) -> None:
    yesterday, calm = nights
    night = yesterday.copy(tmp_path / "night")
    night.slow = 0.5
    # The first has only some of the images, and deletes what it does not have.
    rows = pictures(36, changed=True)
    write_images(rows[:20], night.folder / "images")
    first = night.job()
    _until(first, lambda: "begun" in night.lines("passed", 1))
    write_images(rows[20:], night.folder / "images", "more")
    second = night.job()
    assert second.wait() == 2
    assert first.wait() == 0, first.text()
    assert night.job().wait() == 0
    assert night.wrongs(calm) == []


def test_pictures_that_change_while_a_run_is_at_work(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(30):
        (photos / f"{index:02}.jpg").write_bytes(f"{index % 4}|{index}".encode())

    def ingest(name: str) -> Job:
        arguments = [str(ROOT / "tests" / "robustness" / "night_process.py"), "ingest", "--seen", "/dev/null"]
        arguments += ["--passed", "/dev/null", "--", "--input", str(photos), "--images"]
        return Job([*arguments, str(tmp_path / name / "images")], tmp_path / f"log_{name}")

    assert ingest("night").wait() == 0
    night = Night(tmp_path / "night", "sail", 0.5)
    job = night.job()
    _until(job, lambda: bool(night.lines("seen", 1)))
    # Of the pictures still to come 20 takes the content that 21 had, and 21 another; one goes on, one is new.
    (photos / "20.jpg").write_bytes((photos / "21.jpg").read_bytes())
    (photos / "21.jpg").write_bytes(b"3|quite another")
    (photos / "31.jpg").write_bytes(b"2|new")
    changed = ingest("night")
    assert changed.wait() == 0, changed.text()
    assert job.wait() == 0, job.text()
    assert night.job().wait() == 0

    assert ingest("calm").wait() == 0
    calm = Night(tmp_path / "calm", "sail", 0.0)
    assert calm.job().wait() == 0
    assert night.wrongs(calm) == []
