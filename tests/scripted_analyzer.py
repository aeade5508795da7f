"""An analyzer scripted by the bytes of each image; a child process imports it, so it imports only the package."""

import os
import signal
import time
from collections.abc import Sequence

from faceattr_udf.errors import EngineError
from faceattr_udf.results import ImageResult, ImageStatus


class ScriptedAnalyzer:
    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        return [self._one(content) for content in contents]

    def _one(self, content: bytes | None) -> ImageResult:
        if content is None:
            return ImageResult(ImageStatus.MISSING, "no content")
        match content.split():
            case [b"die"]:
                os.kill(os.getpid(), signal.SIGSEGV)
            case [b"exit"]:
                os._exit(7)
            case [b"hang"]:
                time.sleep(3600)
            case [b"raise"]:
                raise KeyError(content)
            case [b"lose"]:
                msg = "cuda:0 failed"
                raise EngineError(msg)
            case [b"print"]:
                os.write(1, b"a library that prints\n")
        return ImageResult(ImageStatus.NO_FACE, None, len(content), os.getpid())
