"""A name that somebody chose does not become a line of the log, nor a command of the terminal that shows it."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog

from faceattr_udf.spark.enrichment.progress import configure_logging

FORGED = 'a.jpg\n{"event": "completed"}\r\x1b[1A\x1b[2K2026-11-25 [info] all is well\u202e\u2028\x85\x00\udcff'
_COLOUR = re.compile(r"\x1b\[\d+m")
"""What the log itself says to a terminal."""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


Log = Callable[[], io.StringIO]


@pytest.fixture(params=["terminal", "file"])
def stderr(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Called in a test, it starts the log; pytest itself replaces stderr when the test begins."""
    stream = Screen() if request.param == "terminal" else io.StringIO()

    def start() -> io.StringIO:
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging()
        return stream

    yield start
    structlog.reset_defaults()


@pytest.mark.parametrize("place", ["value", "event", "list", "bound"])
def test_one_event_is_one_line(stderr: Log, place: str) -> None:
    stream = stderr()
    log = structlog.get_logger("faceattr_udf")
    match place:
        case "value":
            log.warning("file refused", path=FORGED, reason="symbolic link")
        case "event":
            log.warning(FORGED)
        case "list":
            log.warning("interrupted", runs=[FORGED, FORGED])
        case _:
            log.bind(run_id=FORGED).warning("planned")
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert written.endswith("\n")
    line = written[:-1]
    assert "all is well" in line
    assert _COLOUR.sub("", line).isprintable()
    if not isinstance(stream, Screen):
        assert line.isascii()
        assert json.loads(line)["level"] == "warning"


def test_a_secret_in_a_value_is_hidden(stderr: Log) -> None:
    stream = stderr()
    structlog.get_logger("x").warning("staged files are left", folder="s3://me:t0p@bucket/out", reason="token=t0p")
    assert "t0p" not in stream.getvalue()
    assert "bucket/out" in stream.getvalue()


def test_numbers_stay_numbers(stderr: Log) -> None:
    stream = stderr()
    structlog.get_logger("x").info("wave", images=3, seconds_left=None)
    if isinstance(stream, Screen):
        assert "images=3 seconds_left=None" in _COLOUR.sub("", stream.getvalue())
    else:
        line = json.loads(stream.getvalue())
        assert (line["images"], line["seconds_left"]) == (3, None)
