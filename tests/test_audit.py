"""The audit fails on known vulnerabilities, and never calls an audit what was none."""

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / ".ci" / "audit.py"
VULNERABLE = {"name": "pillow", "version": "9.0.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.0.1"]}]}
SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
SKIPPED = {"name": "numpy", "skip_reason": "not found"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(
    monkeypatch: pytest.MonkeyPatch, canary: list[dict[str, Any]] | None, lock: list[dict[str, Any]] | None
) -> None:
    """What the database says; None: the network fails, and pip-audit prints no JSON."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        said = canary if "canary.txt" in command[-1] else lock
        stdout = "" if said is None else json.dumps({"dependencies": said, "fixes": []})
        return subprocess.CompletedProcess(command, 1, stdout, "Traceback ...")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())


@pytest.mark.parametrize(
    ("canary", "lock", "code", "said"),
    [
        ([VULNERABLE], [SOUND], 0, "no known vulnerability in 1 packages of the.lock"),
        ([VULNERABLE], [SOUND, VULNERABLE], 1, "pillow 9.0.0 has PYSEC-1, fixed in 9.0.1"),
        ([VULNERABLE], [SKIPPED, VULNERABLE], 1, "pillow 9.0.0 has PYSEC-1"),
        ([VULNERABLE], [SOUND, SKIPPED], 3, "SKIPPED"),
        ([VULNERABLE], None, 3, "SKIPPED"),
        # A registry without the database says of every package that it is not found, and pip-audit then succeeds.
        ([SKIPPED], [SKIPPED], 3, "SKIPPED"),
        ([SOUND], [SOUND], 3, "SKIPPED"),
        (None, None, 3, "SKIPPED"),
    ],
)
def test_what_is_said_and_how_it_ends(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    canary: list[dict[str, Any]] | None,
    lock: list[dict[str, Any]] | None,
    code: int,
    said: str,
) -> None:
    answer(monkeypatch, canary, lock)
    assert audit.main(["the.lock"]) == code
    assert said in capsys.readouterr().out
    assert audit.main(["--may-skip", "the.lock"]) == (0 if code == 3 else code)
    assert said in capsys.readouterr().out


def test_without_its_tool_nothing_is_called_an_audit(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert audit.main(["--may-skip", "the.lock"]) == 2
    assert "run make install" in capsys.readouterr().out
