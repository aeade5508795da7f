"""Retry policies: which errors are retried, how often, and what is checked before each attempt."""

import errno

import pytest
import structlog
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import AnalysisException, PySparkException

from faceattr_udf.errors import BusyError, EngineError
from faceattr_udf.spark.engine_errors import explained, is_engine_error, is_transient
from faceattr_udf.spark.retries import commit, retry_transient

CONFLICT = "[DELTA_CONCURRENT_APPEND] files were added"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("faceattr_udf.spark.retries.sleep", seconds.append)
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


@pytest.mark.parametrize(
    "text",
    [
        "Job aborted: Task 0 failed 4 times, most recent failure: Lost task 0.3: ExecutorLostFailure",
        "Lost task 0.0 in stage 3.0: org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)",
        "Job aborted due to stage failure: FetchFailed(BlockManagerId(1, host, 1, None))",
        "failed to lookup address information: Name or service not known",
        "status code: 503, SlowDown: please reduce your request rate",
        "java.net.SocketTimeoutException: Read timed out",
        "[DELTA_CONCURRENT_APPEND] files were added",
        "[FAILED_READ_FILE.FILE_NOT_EXIST] a file was replaced while it was read. SQLSTATE: KD001",
    ],
)
def test_faults_of_engines_that_pass(text: str) -> None:
    assert is_transient(PySparkException(text))


@pytest.mark.parametrize(
    "error",
    [
        PySparkException("an error that nobody has seen yet"),
        AnalysisException("ambiguous attribute: the connection was reset"),
        PySparkException("Lost task 0.3 in stage 1.0: [FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH] [c]"),
        PySparkException("Lost task 0.3: java.lang.RuntimeException: x.txt is not a Parquet file. Expected magic"),
        PySparkException("[DELTA_VIOLATE_CONSTRAINT_WITH_VALUES] CHECK constraint p (age > 0) violated by row"),
        PySparkException("Lost task 0.3: java.io.IOException: No space left on device"),
        PySparkException("[CAST_INVALID_INPUT] The value 'x' cannot be cast. SQLSTATE: 22018"),
        PySparkException("Server returned non-2xx status code: 403 Forbidden"),
    ],
)
def test_faults_of_engines_that_last(error: Exception) -> None:
    assert is_engine_error(error)
    assert not is_transient(error)


def test_errors_are_explained_in_one_line() -> None:
    def explain(error: BaseException) -> None:
        with explained("t cannot be read", "check it"):
            raise error

    bridge = "An error occurred while calling o1.x.\n: a.B: Job aborted\n\tat x\nCaused by: c.D: cut off\n\tat y"
    with pytest.raises(EngineError, match=r"^t cannot be read \(c\.D: cut off\); check it$"):
        explain(PySparkException(bridge))
    with pytest.raises(EngineError, match="Not a directory"):
        explain(NotADirectoryError(errno.ENOTDIR, "Not a directory"))
    for other in (BusyError("another writer"), ZeroDivisionError("a bug")):
        with pytest.raises(type(other)):
            explain(other)


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


@pytest.mark.parametrize(
    ("message", "passes"), [("An error occurred while calling o1.x", True), ("no such key", False)]
)
def test_call_without_a_cause_is_transient_because_the_jvm_is_gone(message: str, *, passes: bool) -> None:
    assert is_transient(Py4JError(message)) is passes
