"""An analyzer in a process of its own: a native crash, a hang or a memory kill costs one image and not the night.

The parent keeps the engine's connection and sends encoded images; the child has the decoders and the networks. A child
that dies or does not answer in time is replaced, and its images are tried again one by one: the culprit gets the status
model_error, the others their results.
"""

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Final, Protocol, cast

import structlog

from faceattr_udf.errors import EngineError, FaceattrError
from faceattr_udf.results import ImageResult, ImageStatus

log = structlog.get_logger(__name__)

_START_SECONDS: Final = 600
"""Loading takes a second; a machine that is out of memory or disk may take long and is still no dead one."""
_END_SECONDS: Final = 10
_OOM_SCORE: Final = "500"


class Analyzer(Protocol):
    """`faceattr_udf.analyzer.FaceAnalyzer`, and what stands in for it."""

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        """Returns one result per image."""
        ...


class IsolatedAnalyzer:
    """An analyzer in a child process, which is started anew when it dies.

    One instance serves one thread at a time. The child ends when the parent lets go of it or dies itself.
    """

    def __init__(self, load: Callable[[], Analyzer], batch_seconds: float) -> None:
        """Starts the child and waits until its analyzer is loaded.

        Args:
            load: Makes the analyzer, in the child; it must pickle.
            batch_seconds: The longest that one call, and then one image, may take.

        Raises:
            FaceattrError: `load` raised it.
            EngineError: The child died while loading.
        """
        self._load = load
        self._seconds = batch_seconds
        self._child = _Child(load)

    @property
    def pid(self) -> int:
        """The child's process id; another one after it was replaced."""
        return self._child.pid

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        """Returns one result per image, in order; model_error for those that the child does not survive."""
        if not contents:
            return []
        try:
            return self._child.ask(contents, self._seconds)
        except _LostError as lost:
            log.warning("the analyzer's process was lost and is started again", reason=str(lost), images=len(contents))
            self._child.close()
            self._child = _Child(self._load)
            if len(contents) == 1:
                return [ImageResult(ImageStatus.MODEL_ERROR, f"the process that analysed this image {lost}")]
        return [self.analyze([content])[0] for content in contents]

    def close(self) -> None:
        """Ends the child."""
        self._child.close()


class _LostError(Exception):
    """The child died or did not answer; the message continues "the process ..."."""


class _Child:
    def __init__(self, load: Callable[[], Analyzer]) -> None:
        # What the parent can import the child can: --py-files and editable folders are only on the parent's path.
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        their_requests, self._requests = Pipe(duplex=False)
        self._answers, their_answers = Pipe(duplex=False)
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, with constants
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=their_requests.fileno(),
            stdout=their_answers.fileno(),
            env={**os.environ, "PYTHONPATH": path},
        )
        # Only with the child's ends closed here does its end close the connection.
        their_requests.close()
        their_answers.close()
        try:
            self._exchange(load, _START_SECONDS)
        except _LostError as lost:
            self.close()
            msg = f"the analyzer's process {lost} while it loaded the models; see the lines above, or free some memory"
            raise EngineError(msg) from lost
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, contents: Sequence[bytes | None], seconds: float) -> list[ImageResult]:
        return cast("list[ImageResult]", self._exchange(list(contents), seconds))

    def _exchange(self, request: object, seconds: float) -> object:
        try:
            self._requests.send(request)
            if not self._answers.poll(seconds):
                msg = f"gave no result within {seconds:g} s"
                raise _LostError(msg)
            answer = self._answers.recv()
        except (EOFError, OSError) as error:
            msg = f"died ({self._fate()})"
            raise _LostError(msg) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _fate(self) -> str:
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def close(self) -> None:
        self._requests.close()
        self._answers.close()
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Runs the child: the first message is the function that makes the analyzer, the others are batches of images."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    requests, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # a library that prints shall not write into the answers
    with contextlib.suppress(OSError):
        # When memory runs out this process shall go, not its parent: then one image is lost and not the task.
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    analyzer: Analyzer | None = None
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            request = requests.recv()
            answer: object
            try:
                if analyzer is None:
                    analyzer = request()
                    answer = None
                else:
                    answer = analyzer.analyze(request)
            except FaceattrError as error:
                if analyzer is not None:
                    raise  # the GPU is lost; a new process may find it again
                answer = error
            except Exception as error:
                # Whatever it is, it may not pickle, and its message and the values around it may be an image's.
                answer = RuntimeError(f"the analyzer failed ({type(error).__name__})")
                place = traceback.extract_tb(error.__traceback__)[-1]
                log.error("the analyzer failed", error=type(error).__name__, file=place.filename, line=place.lineno)
            answers.send(answer)
