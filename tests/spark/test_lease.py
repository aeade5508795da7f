"""The lease on a folder; needs no engine."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog
from pyarrow import fs

from faceattr_udf.errors import BusyError
from faceattr_udf.spark.lease import Claim, Lease


def leave(folder: Path, claim: Claim, heartbeat: str | None = "7") -> Path:
    """Writes the lease files of another writer."""
    (folder / "_lease").mkdir(parents=True, exist_ok=True)
    file = folder / "_lease" / f"{claim.claim_id}.json"
    file.write_text(claim.model_dump_json())
    if heartbeat:
        file.with_suffix(".beat").write_text(heartbeat)
    return file


def remote_claim() -> Claim:
    return Claim(writer="run far away", machine="another boot pid:[1]")


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_lease_is_released_without_leftovers(tmp_path: Path) -> None:
    with Lease(str(tmp_path / "out"), "run 1", 60) as lease:
        lease.check()
        assert len(list((tmp_path / "out" / "_lease").glob("*.json"))) == 1
    assert list((tmp_path / "out").iterdir()) == []
    with Lease(str(tmp_path / "out"), "run 2", 60):
        pass


def test_second_lease_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    with Lease(str(tmp_path), "run 1", 60) as first:
        with pytest.raises(BusyError, match=rf"is being written by run 1 \(process {os.getpid()} on .* UTC\); wait"):
            Lease(str(tmp_path), "run 2", 60).__enter__()
        first.check()
    with Lease(str(tmp_path), "run 3", 60):
        pass


def test_lease_is_released_when_the_job_fails_or_is_interrupted(tmp_path: Path) -> None:
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), Lease(str(tmp_path), "run", 60):
            raise error
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("heartbeat", ["7", None])
def test_killed_process_of_this_machine_does_not_hold_the_lease(tmp_path: Path, heartbeat: str | None) -> None:
    leave(tmp_path, Claim(writer="run killed", pid=dead_process()), heartbeat)
    # A live process with the same id that started at another time: the id was reused.
    leave(tmp_path, Claim(writer="run older", pid=os.getppid(), process_start=1), heartbeat)
    with structlog.testing.capture_logs() as logs, Lease(str(tmp_path), "run", 100_000):
        assert len(list((tmp_path / "_lease").glob("*.json"))) == 1
    assert [line["event"] for line in logs] == ["stale_lease_removed"] * 2


def test_zombie_process_does_not_hold_the_lease(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    start = psutil.Process(process.pid).create_time() - psutil.boot_time()
    leave(tmp_path, Claim(writer="run killed", pid=process.pid, process_start=round(start, 2)))
    with pytest.raises(BusyError):
        Lease(str(tmp_path), "run", 60).__enter__()
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    with Lease(str(tmp_path), "run", 100_000):
        pass
    process.wait()


@pytest.mark.parametrize("step", [-3600, 3600])
def test_setting_the_clock_does_not_end_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Linux derives a process's wall clock start from the boot time, which moves with the clock."""
    claim, boot = Claim(writer="run 1"), psutil.boot_time()
    with Lease(str(tmp_path), "run 1", 60):
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + step)
        assert psutil.boot_time() == boot + step
        assert claim.alive()
        with pytest.raises(BusyError):
            Lease(str(tmp_path), "run 2", 100_000).__enter__()


@pytest.mark.parametrize("claim", [remote_claim(), Claim(writer="run of a system without /proc", machine=None)])
def test_remote_holder_without_heartbeat_expires(tmp_path: Path, claim: Claim) -> None:
    leave(tmp_path, claim)
    started = time.monotonic()
    with Lease(str(tmp_path), "run", 0.8):
        assert time.monotonic() - started > 0.8
        assert len(list((tmp_path / "_lease").glob("*.json"))) == 1


def test_remote_holder_with_heartbeat_is_respected(tmp_path: Path) -> None:
    file = leave(tmp_path, remote_claim()).with_suffix(".beat")
    timer = threading.Timer(0.5, lambda: file.write_text("8"))
    timer.start()
    with pytest.raises(BusyError, match="run far away"):
        Lease(str(tmp_path), "run", 100_000).__enter__()
    timer.join()
    assert file.exists()
    assert len(list((tmp_path / "_lease").glob("*.json"))) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"writer": "x", "pid": -1}'])
def test_unreadable_claim_counts_as_remote(tmp_path: Path, text: str) -> None:
    (tmp_path / "_lease").mkdir()
    (tmp_path / "_lease" / "0.json").write_text(text)
    with Lease(str(tmp_path), "run", 0.5):
        assert not (tmp_path / "_lease" / "0.json").exists()


def test_leftover_files_block_nothing_and_are_removed(tmp_path: Path) -> None:
    (tmp_path / "_lease").mkdir()
    for name in ("_20260101-x.json", "20260101-x.beat"):
        (tmp_path / "_lease" / name).write_text("{")
    with Lease(str(tmp_path), "run", 100_000):
        assert len(list((tmp_path / "_lease").iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


def test_check_raises_when_the_claim_was_taken_over(tmp_path: Path) -> None:
    with Lease(str(tmp_path), "run", 60) as lease:
        lease.check()
        for file in (tmp_path / "_lease").iterdir():
            file.unlink()
        with pytest.raises(BusyError, match=r"another writer has taken over .*lease_seconds"):
            lease.check()


def test_heartbeat_changes_while_the_lease_is_held(tmp_path: Path) -> None:
    with Lease(str(tmp_path), "run", 0.3):
        (file,) = (tmp_path / "_lease").glob("*.beat")
        first = file.read_text()
        while file.read_text() in {first, ""}:
            pass


class _InStep:
    """The local file system, on which several writers find no claim, and then write theirs at the same moment."""

    def __init__(self, writers: int) -> None:
        self._listed, self._claimed = threading.Barrier(writers, timeout=10), threading.Barrier(writers, timeout=10)
        self._mine = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(fs.LocalFileSystem(), name)

    def get_file_info(self, what: Any) -> Any:
        found = fs.LocalFileSystem().get_file_info(what)
        self._wait_once("listed", self._listed)
        return found

    def move(self, old: str, new: str) -> None:
        fs.LocalFileSystem().move(old, new)
        self._wait_once("claimed", self._claimed)

    def _wait_once(self, step: str, barrier: threading.Barrier) -> None:
        if not hasattr(self._mine, step):
            setattr(self._mine, step, True)
            barrier.wait()


@pytest.mark.parametrize("at_once", [True, False])
def test_exactly_one_of_many_writers_gets_the_lease(
    at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several writers start together; `at_once`: each sees the claims of all others after its own."""
    for attempt in range(1 if at_once else 8):
        together, done = threading.Barrier(6), threading.Barrier(6)
        outcomes: list[str] = []
        if at_once:
            system = _InStep(6)
            monkeypatch.setattr("faceattr_udf.spark.lease.file_system", lambda folder, system=system: (system, folder))

        def contend(folder: str, together: threading.Barrier, done: threading.Barrier, outcomes: list[str]) -> None:
            lease = Lease(folder, "run", 60)  # before the barrier, so that all claim at the same moment
            together.wait()
            try:
                with lease:
                    outcomes.append("held")
                    done.wait()
            except BusyError:
                outcomes.append("refused")
                done.wait()

        arguments = (str(tmp_path / str(attempt)), together, done, outcomes)
        threads = [threading.Thread(target=contend, args=arguments) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["held"] + ["refused"] * 5


def test_vanishing_lease_folder_counts_as_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that ends removes the folder; it must not count as a store without leases, or two writers get one."""

    class Vanishing:
        listed = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(fs.LocalFileSystem(), name)

        def get_file_info(self, what: Any) -> Any:
            if isinstance(what, fs.FileSelector):
                self.listed += 1
                if self.listed == 1:
                    raise FileNotFoundError(2, "Cannot list directory")
            return fs.LocalFileSystem().get_file_info(what)

    monkeypatch.setattr("faceattr_udf.spark.lease.file_system", lambda folder: (Vanishing(), folder))
    with Lease(str(tmp_path), "run 1", 60), pytest.raises(BusyError), Lease(str(tmp_path), "run 2", 60):
        pass


def test_unreachable_store_has_no_lease_and_warns() -> None:
    with structlog.testing.capture_logs() as logs, Lease("nowhere://bucket/out", "run", 60) as lease:
        lease.check()
    (warning,) = logs
    assert warning["event"] == "lease_unavailable"
    assert warning["folder"] == "nowhere://bucket/out"
