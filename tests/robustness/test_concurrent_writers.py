"""Runs several jobs on the same tables at the same time: no row is lost, duplicated or stale."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from kill_runs import RunFolder, image_rows, write_images
from process_groups import ROOT, JobProcess

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


def _wait_until(job: JobProcess, condition: Callable[[], bool]) -> None:
    while job.running and not condition():
        time.sleep(0.01)


def _assert_one_is_refused(jobs: list[JobProcess]) -> None:
    codes = [job.wait() for job in jobs]
    assert sorted(codes) == [0, 4], [job.output() for job in jobs]
    (refusal,) = (line for line in jobs[codes.index(4)].output().splitlines() if line.startswith("enrich: "))
    assert "out is being written by run 2" in refusal
    assert refusal.endswith("wait until it has ended and run this again")


@pytest.mark.spark
def test_second_spark_run_is_refused_during_compaction(
    prepared_runs: tuple[RunFolder, RunFolder], tmp_path: Path
) -> None:
    first, expected = prepared_runs
    runs = first.copy(tmp_path / "runs")
    runs.engine = "spark"
    runs.pause_file.touch()  # the first run goes on until the other is refused, however slow the machine is
    jobs = [runs.start_run(), runs.start_run()]
    compacted = 0
    while any(job.running for job in jobs):
        for name in ("faces", "image_results"):
            try:
                DeltaTable(runs.output / name).optimize.compact()
                compacted += 1
            except CommitFailedError:
                pass  # the run has committed first: a compaction may fail, a run may not
        if not all(job.running for job in jobs):
            runs.pause_file.unlink(missing_ok=True)
        time.sleep(0.5)
    _assert_one_is_refused(jobs)
    assert compacted > 0
    assert runs.differences(expected) == []
    assert max(runs.repeated_inferences()) == 0


def test_refused_run_processes_the_rest_later(prepared_runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    first, expected = prepared_runs
    runs = first.copy(tmp_path / "runs")
    runs.pause_file.touch()
    # The first run sees only some of the images, and deletes the results of the others.
    rows = image_rows(36, changed=True)
    write_images(rows[:20], runs.folder / "images")
    running = runs.start_run()
    _wait_until(running, lambda: "leased" in runs.steps(1))
    refused = runs.start_run()
    _wait_until(running, lambda: "begun" in runs.steps(1))
    write_images(rows[20:], runs.folder / "images", "more")
    assert refused.wait() == 4
    runs.pause_file.unlink()
    assert running.wait() == 0, running.output()
    assert runs.start_run().wait() == 0
    assert runs.differences(expected) == []


def test_images_changed_during_a_run_are_updated_by_the_next(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(30):
        (photos / f"{index:02}.jpg").write_bytes(f"{index % 4}|{index}".encode())

    def ingest(name: str) -> JobProcess:
        arguments = [str(ROOT / "tests" / "robustness" / "run_process.py"), "ingest", "--inferred", "/dev/null"]
        arguments += ["--steps", "/dev/null", "--", "--input", str(photos), "--images"]
        return JobProcess([*arguments, str(tmp_path / name / "images")], tmp_path / f"log_{name}")

    assert ingest("changed").wait() == 0
    runs = RunFolder(tmp_path / "changed", "sail")
    runs.pause_file.touch()
    running = runs.start_run()
    _wait_until(running, lambda: bool(runs.inferred(1)))
    # Among the images that are still pending, 20 takes the content of 21, 21 gets new content, and 31 is added.
    (photos / "20.jpg").write_bytes((photos / "21.jpg").read_bytes())
    (photos / "21.jpg").write_bytes(b"3|quite another")
    (photos / "31.jpg").write_bytes(b"2|new")
    changed = ingest("changed")
    assert changed.wait() == 0, changed.output()
    runs.pause_file.unlink()
    assert running.wait() == 0, running.output()
    assert runs.start_run().wait() == 0

    assert ingest("expected").wait() == 0
    expected = RunFolder(tmp_path / "expected", "sail", 0.0)
    assert expected.start_run().wait() == 0
    assert runs.differences(expected) == []
