"""Retry policies: which errors are retried, how often, and what is checked before each attempt."""

import errno

import pytest
import structlog
from py4j.protocol import Py4JNetworkError
from pyspark.errors import PySparkException

from faceattr_udf.errors import BusyError
from faceattr_udf.spark.engine_errors import is_engine_error, is_transient
from faceattr_udf.spark.retries import commit, retry_transient

CONFLICT = "[DELTA_CONCURRENT_APPEND] files were added"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("faceattr_udf.spark.retries.time.sleep", seconds.append)
    return seconds


@pytest.mark.parametrize(
    "error",
    [
        PySparkException("a worker is gone"),
        Py4JNetworkError("the JVM is gone"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError("timed out"),
        OSError(errno.EIO, "Input/output error"),
        OSError("AWS Error NETWORK_CONNECTION during HeadObject"),
    ],
)
def test_transient_errors_are_retried(error: Exception, waits: list[float]) -> None:
    reported: list[BaseException] = []
    outcomes = iter([error, error, None])

    def step() -> str:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return "done"

    assert retry_transient(step, 2, lambda raised, _: reported.append(raised)) == "done"
    assert reported == [error, error]
    assert [int(seconds) for seconds in waits] == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        FileNotFoundError("without a number"),
        IsADirectoryError(errno.EISDIR, "Is a directory"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        BusyError("another writer has taken over"),
        ValueError("a bug"),
        KeyboardInterrupt(),
    ],
)
def test_permanent_errors_are_not_retried(error: BaseException, waits: list[float]) -> None:
    def step() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        retry_transient(step, 2, lambda *_: None)
    assert caught.value is error
    assert waits == []
    assert not is_transient(error)
    assert not is_engine_error(error)


def test_last_transient_error_is_raised(waits: list[float]) -> None:
    errors = iter([PySparkException(f"worker is lost {number}") for number in range(3)])

    def step() -> None:
        raise next(errors)

    with pytest.raises(PySparkException, match="2"):
        retry_transient(step, 2, lambda *_: None)
    assert len(waits) == 2


def test_commit_runs_its_check_before_every_attempt(waits: list[float]) -> None:
    calls: list[str] = []

    def check() -> None:
        calls.append("check")
        if len(waits) == 2:
            msg = "the lease is lost"
            raise BusyError(msg)

    def act() -> None:
        calls.append("act")
        raise RuntimeError(CONFLICT)

    with structlog.testing.capture_logs() as logs, pytest.raises(BusyError, match="the lease is lost"):
        commit("faces", act, check)
    assert calls == ["check", "act", "check", "act", "check"]
    assert [(line["event"], line["table"]) for line in logs] == [("commit_conflict_retry", "faces")] * 2


def test_commit_raises_other_errors_unchanged(waits: list[float]) -> None:
    error = RuntimeError("disk full")

    def act() -> None:
        raise error

    with pytest.raises(RuntimeError) as caught:
        commit("faces", act)
    assert caught.value is error
    assert waits == []
