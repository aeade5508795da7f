"""Runs an analyzer in a child process, so that a crash, a hang or an out-of-memory kill costs one image, not the run.

The parent keeps the connection to the engine and sends encoded images; the child runs the decoders and the networks. A
child that dies or does not answer in time is replaced, and its images are retried one by one: the image that caused it
gets the status model_error, the others get their results.
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
"""Time limit for loading the models. It usually takes a second, but far longer on a machine that is swapping."""

_EXIT_SECONDS: Final = 10
"""How long to wait for the exit code of a child whose connection was closed."""

_OOM_SCORE: Final = "500"
"""The child's oom_score_adj (0 by default, at most 1000), so that the kernel kills the child and not its parent."""


class Analyzer(Protocol):
    """The interface of `faceattr_udf.analyzer.FaceAnalyzer`, which tests replace."""

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        """Returns one result per image."""
        ...


class IsolatedAnalyzer:
    """An analyzer in a child process, which is restarted when it dies.

    Use one instance per thread. The child exits when the parent closes it or dies.
    """

    def __init__(self, load: Callable[[], Analyzer], batch_seconds: float) -> None:
        """Starts the child and waits until its analyzer is loaded.

        Args:
            load: Loads the analyzer, in the child; must be picklable.
            batch_seconds: Time limit of one call, and of each image when it is retried alone.

        Raises:
            FaceattrError: `load` raised it.
            EngineError: The child died while loading.
        """
        self._load = load
        self._seconds = batch_seconds
        self._child = _Child(load)

    @property
    def pid(self) -> int:
        """The child's process id; it changes when the child is replaced."""
        return self._child.pid

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        """Returns one result per image, in order; the status is model_error for images that kill the child."""
        if not contents:
            return []
        try:
            return self._child.ask(contents, self._seconds)
        except _LostError as lost:
            log.warning("analyzer_process_restart", reason=str(lost), images=len(contents))
            self._child.close()
            self._child = _Child(self._load)
            if len(contents) == 1:
                return [ImageResult(ImageStatus.MODEL_ERROR, f"the process that analyzed this image {lost}")]
        return [self.analyze([content])[0] for content in contents]

    def close(self) -> None:
        """Stops the child."""
        self._child.close()


class _LostError(Exception):
    """The child died or did not answer; the message continues the sentence "the process ..."."""


class _Child:
    def __init__(self, load: Callable[[], Analyzer]) -> None:
        # The child must import what the parent can: --py-files and editable installs are only on the parent's path.
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        child_requests, self._requests = Pipe(duplex=False)
        self._answers, child_answers = Pipe(duplex=False)
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, with constants
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=child_requests.fileno(),
            stdout=child_answers.fileno(),
            env={**os.environ, "PYTHONPATH": path},
        )
        # The parent must close its copies of the child's ends, or the connection would survive the child.
        child_requests.close()
        child_answers.close()
        try:
            self._exchange(load, _START_SECONDS)
        except _LostError as lost:
            self.close()
            msg = f"the analyzer's process {lost} while it loaded the models; see its output above, or free some memory"
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
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def close(self) -> None:
        self._requests.close()
        self._answers.close()
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Runs the child: the first message is the function that loads the analyzer, the others are batches of images."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    requests, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # so that libraries that print do not write into the answers
    with contextlib.suppress(OSError):
        # If memory runs out, this process should be killed and not its parent: one image is lost, not the task.
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
                    raise  # the GPU failed; a new process may be able to use it
                answer = error
            except Exception as error:
                # The exception may not be picklable, and its message or traceback may quote an image.
                answer = RuntimeError(f"the analyzer failed ({type(error).__name__})")
                place = traceback.extract_tb(error.__traceback__)[-1]
                log.error("analyzer_failed", error=type(error).__name__, file=place.filename, line=place.lineno)
            answers.send(answer)
