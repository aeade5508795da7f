"""The progress bar: what it shows, and that log lines do not tear it."""

import io
import json
import re
import sys
import time

import pytest
import structlog
from rich.console import Console

from faceattr_udf.cli.progress_bar import progress_bar
from faceattr_udf.logs import configure_logging

_CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|\r")


def terminal(width: int = 120) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def written(console: Console) -> str:
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def last_bar(console: Console) -> str:
    return _CONTROL.sub("\n", written(console)).strip().splitlines()[-1]


def run(console: Console, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Shows a run over a million images, 8 hours after planning; returns the screen's last lines."""
    now = 0.0
    monkeypatch.setattr(console, "get_time", lambda: now)
    with progress_bar(console) as progress:
        assert progress is not None
        progress.planned(1_000_000)
        now = 3_600.0
        progress.wave_committed(images=100_000, faces=1_234, failed=0)
        now = 28_800.0
        progress.wave_committed(images=400_000, faces=1_000_000, failed=1_003)
    return _CONTROL.sub("\n", written(console)).strip().splitlines()[-2:]


def test_bar_shows_counts_rate_times_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = run(terminal(), monkeypatch)[-1]
    assert bar.startswith("enriching ━")
    assert bar.endswith(
        " 500,000/1,000,000 images  17.4/s  8:00:00 left  8:00:00 elapsed  1,001,234 faces  1,003 failed"
    )
    assert len(bar) <= 120


def test_bar_has_two_lines_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = run(terminal(width=80), monkeypatch)
    assert first.startswith("enriching ━")
    assert first.rstrip().endswith(" 500,000/1,000,000 images  17.4/s  8:00:00 left")
    assert second.strip() == "8:00:00 elapsed  1,001,234 faces  1,003 failed"
    assert max(len(first), len(second)) <= 80


def test_nothing_pending() -> None:
    console = terminal()
    with progress_bar(console) as progress:
        assert progress is not None
        progress.planned(0)
    assert "0/0 images" in last_bar(console)


def test_elapsed_time_moves_during_a_wave() -> None:
    console = terminal()
    with progress_bar(console) as progress:
        assert progress is not None
        progress.planned(10)
        deadline = time.monotonic() + 10
        while "0:00:01 elapsed" not in written(console):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_time_left_counts_down_during_a_wave(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    console = terminal()
    monkeypatch.setattr(console, "get_time", lambda: now)
    with progress_bar(console) as progress:
        assert progress is not None
        progress.planned(300)
        now = 110.0
        progress.wave_committed(images=100, faces=0, failed=0)
        assert "100/300 images  10.0/s  0:00:20 left  0:00:10 elapsed" in last_bar(console)
        now = 115.0
    assert "100/300 images  10.0/s  0:00:15 left  0:00:15 elapsed" in last_bar(console)


def test_log_lines_stay_whole_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal(width=60)
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure_logging()
    try:
        with progress_bar(console) as progress:
            assert progress is not None
            progress.planned(10)
            log = structlog.get_logger("x").bind(run_id="[bold]r")
            log.info("wave_committed", note="y" * 100)
            sys.stderr.write("unfinished")
        assert sys.stderr is stderr
        log.info("late")
    finally:
        structlog.reset_defaults()
    lines = _CONTROL.sub("\n", written(console)).splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(event["event"], event["run_id"]) for event in events] == [
        ("wave_committed", "[bold]r"),
        ("late", "[bold]r"),
    ]
    assert events[0]["note"] == "y" * 100
    assert "unfinished" in lines
    assert stderr.getvalue() == ""


def test_stdout_is_not_redirected(capsys: pytest.CaptureFixture[str]) -> None:
    console = terminal()
    with progress_bar(console):
        sys.stdout.write("a result\n")
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in written(console)


@pytest.mark.parametrize("term", [None, "dumb"])
def test_no_bar_without_a_terminal(monkeypatch: pytest.MonkeyPatch, term: str | None) -> None:
    stream = io.StringIO()
    if term:
        monkeypatch.setenv("TERM", term)
    console = Console(file=stream, force_terminal=term is not None)
    with progress_bar(console) as progress:
        assert progress is None
        sys.stderr.write("log line\n")
    assert stream.getvalue() == ""


def test_redirected_stderr_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar() as progress:
        assert progress is None
    assert stream.getvalue() == ""


def test_bar_is_removed_when_the_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    console = terminal()
    with pytest.raises(ValueError, match="failed"), progress_bar(console):
        raise ValueError("failed")
    assert sys.stderr is stream
    size = len(written(console))
    time.sleep(0.3)
    assert len(written(console)) == size
