"""Errors of the engines: which of them may pass, and what each says in one line.

Engines report a lost worker and a column of the wrong type by the same classes, so messages are matched. What may pass
is a list; every other error lasts until a person changes something, and repeating the step would only cost time.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from faceattr_udf.errors import EngineError
from faceattr_udf.sanitize import first_line, redacted

_ENGINE_PACKAGES: Final = frozenset({"pyspark", "py4j", "grpc", "delta", "deltalake", "_internal"})

_CONFLICT_MESSAGE: Final = re.compile(
    r"DELTA_CONCURRENT_|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED|Concurrent\w+Exception"
    # The embedded engine; the second message appears when it reads the log while another process writes it.
    r"|Failed to commit transaction|Missing commit file"
    # delta-rs, whose messages vary.
    r"|^CommitFailedError:"
)
"""Engines have no common type for a commit conflict, so its message is matched."""

_TRANSIENT: Final = re.compile(
    # Connections and time limits.
    r"connection (was |has been |is )?(refused|reset|closed|aborted|lost|error)|connection pool|broken pipe"
    r"|channel closed|network is unreachable|no route to host|unknown ?host|lookup address"
    r"|name resolution|NETWORK_CONNECTION"
    r"|timed? ?out|deadline.?exceeded|StatusCode\.(UNAVAILABLE|ABORTED|CANCELLED)|_MultiThreadedRendezvous.*UNAVAILABLE"
    # A call without a cause: the JVM is gone.
    r"|Py4JNetworkError|^Py4JError\nAn error occurred while calling \S+\s*\Z"
    r"|error while sending or receiving|transport error|unexpected end of file|EOFException"
    # Stores that ask to wait, or fail for a moment.
    r"|too many requests|slow ?down|throttl|temporarily unavailable|service ?unavailable|internal ?(server )?error"
    r"|(status|code|http|error)\W{1,6}(code\W{1,3})?(429|500|502|503|504)\b|RequestTimeout|error sending request"
    # Workers and executors that are lost; the next attempt runs on others.
    r"|worker exited|worker (is|was) (gone|lost|killed)|executor ?lost|lost executor|executor \S+ (exited|is lost)"
    r"|lost task|fetch ?failed|block \S+ (is )?not (found|available)|node (is )?lost|decommission|heartbeat|crashed"
    # Files that another writer replaced while they were read.
    r"|FILE_NOT_EXIST|FileNotFoundException|DELTA_FILE_NOT_FOUND|Object at location .* not found",
    re.IGNORECASE | re.DOTALL,
)

_LASTING: Final = re.compile(
    r"MISMATCH|VIOLATE|UNRESOLVED|AMBIGUOUS|DIVIDE_BY_ZERO|CAST_INVALID|NOT_FOUND\b.*SQLSTATE: 42|SQLSTATE: (42|22)"
    r"|data type mismatch|not a parquet file|invalid parquet|corrupt footer|no space left|permission denied"
    r"|access ?denied|403 Forbidden|unauthorized|no such bucket|NoSuchBucket|unsupported",
    re.IGNORECASE,
)
"""Faults that stay, also where the message around them speaks of lost tasks, as Spark's does."""

_LASTING_TYPES: Final = frozenset(
    {"AnalysisException", "ParseException", "IllegalArgumentException", "UnsupportedOperationException"}
)

_TRANSIENT_ERRNOS: Final = frozenset(
    {
        *(errno.EAGAIN, errno.EBUSY, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    }
)


def is_conflict(error: BaseException) -> bool:
    """Checks whether a commit was refused because another writer committed first.

    >>> is_conflict(RuntimeError("[DELTA_CONCURRENT_APPEND] files were added")), is_conflict(RuntimeError("disk full"))
    (True, False)
    """
    return _CONFLICT_MESSAGE.search(f"{type(error).__name__}: {error}") is not None


def is_engine_error(error: BaseException) -> bool:
    """Checks whether an error was raised by the engine or its client, not by this package."""
    return not _ENGINE_PACKAGES.isdisjoint(kind.__module__.split(".")[0] for kind in type(error).mro())


def is_transient(error: BaseException) -> bool:
    """Checks whether the same step may succeed when it is repeated.

    Of the engines' errors, those count that name a lost connection, a lost worker, a busy store or a conflict. Errors
    of the operating system count where waiting can help (lost connections, timeouts, flaky disks and networks), but
    not a missing file, a missing permission or a full disk.

    >>> is_transient(ConnectionResetError()), is_transient(PermissionError(13, "Permission denied"))
    (True, False)
    """
    if is_engine_error(error):
        if is_conflict(error):
            return True
        lines = (line for line in str(error).splitlines() if not line.startswith("\tat "))  # no stack traces
        text = "\n".join([type(error).__name__, *lines])
        if _LASTING_TYPES & {kind.__name__ for kind in type(error).mro()} or _LASTING.search(text):
            return False
        return _TRANSIENT.search(text) is not None
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if type(error) is OSError and error.errno is None:
        return True  # Arrow's errors about object stores have no number
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS


def reason(error: BaseException) -> str:
    r"""Returns what an engine's error says, in one line and without secrets.

    The JVM's bridge begins its messages with the name of a call; the cause stands below.

    >>> reason(RuntimeError("An error occurred while calling o1.x.\n: a.B: failed\n\tat x\nCaused by: c.D: cut off"))
    'c.D: cut off'
    """
    text = str(error).strip()
    if text.startswith("An error occurred while calling"):
        lines = text.splitlines()
        causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
        thrown = [line.removeprefix(": ") for line in lines if line.startswith(": ")]
        found = [*thrown[:1], *causes][-1:]
        if found:
            return redacted(found[0])
    return redacted(first_line(error))


@contextmanager
def explained(what: str, fix: str) -> Iterator[None]:
    """Turns any error of the engine or of the operating system into an `EngineError`.

    Args:
        what: The thing that fails, such as "table x cannot be read".
        fix: What to do.
    """
    try:
        yield
    except Exception as error:  # py4j, gRPC, Arrow and the clients raise unrelated types
        if not (is_engine_error(error) or isinstance(error, OSError)):
            raise
        msg = f"{what} ({reason(error)}); {fix}"
        raise EngineError(msg) from error
