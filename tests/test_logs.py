"""Untrusted names in log events cannot forge log lines or control the terminal."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog

from faceattr_udf.logs import configure_logging

FORGED = 'a.jpg\n{"event": "completed"}\r\x1b[1A\x1b[2K2026-11-25 [info] all is well\u202e\u2028\x85\x00\udcff'
_COLOR = re.compile(r"\x1b\[\d+m")
"""The log's own escape sequences."""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


Log = Callable[[], io.StringIO]


@pytest.fixture(params=["terminal", "file"])
def stderr(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Returns a function that configures the log; called inside a test, because pytest replaces stderr before it."""
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
            log.warning("file_refused", path=FORGED, reason="symbolic link")
        case "event":
            log.warning(FORGED)
        case "list":
            log.warning("runs_interrupted", run_ids=[FORGED, FORGED])
        case _:
            log.bind(run_id=FORGED).warning("run_planned")
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert written.endswith("\n")
    line = written[:-1]
    assert "all is well" in line
    assert _COLOR.sub("", line).isprintable()
    if not isinstance(stream, Screen):
        assert line.isascii()
        assert json.loads(line)["level"] == "warning"


def test_secrets_in_values_are_redacted(stderr: Log) -> None:
    stream = stderr()
    structlog.get_logger("x").warning("staging_not_removed", folder="s3://me:t0p@bucket/out", reason="token=t0p")
    assert "t0p" not in stream.getvalue()
    assert "bucket/out" in stream.getvalue()


def test_numbers_stay_numbers(stderr: Log) -> None:
    stream = stderr()
    structlog.get_logger("x").info("wave_committed", images=3, seconds_left=None)
    if isinstance(stream, Screen):
        assert "images=3 seconds_left=None" in _COLOR.sub("", stream.getvalue())
    else:
        line = json.loads(stream.getvalue())
        assert (line["images"], line["seconds_left"]) == (3, None)
