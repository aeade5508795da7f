"""Tests `.ci/audit.py`: it fails on known vulnerabilities and reports it when the database did not answer."""

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / ".ci" / "audit.py"
VULNERABLE = {"name": "pillow", "version": "9.0.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.0.1"]}]}
SAFE = {"name": "numpy", "version": "2.4.6", "vulns": []}
SKIPPED = {"name": "numpy", "skip_reason": "not found"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_database(
    monkeypatch: pytest.MonkeyPatch, canary: list[dict[str, Any]] | None, lock: list[dict[str, Any]] | None
) -> None:
    """Replaces pip-audit and its results; with None the network fails and pip-audit prints no JSON."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        dependencies = canary if "canary.txt" in command[-1] else lock
        stdout = "" if dependencies is None else json.dumps({"dependencies": dependencies, "fixes": []})
        return subprocess.CompletedProcess(command, 1, stdout, "Traceback ...")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())


@pytest.mark.parametrize(
    ("canary", "lock", "code", "printed"),
    [
        ([VULNERABLE], [SAFE], 0, "no known vulnerability in 1 packages of the.lock"),
        ([VULNERABLE], [SAFE, VULNERABLE], 1, "pillow 9.0.0 has PYSEC-1, fixed in 9.0.1"),
        ([VULNERABLE], [SKIPPED, VULNERABLE], 1, "pillow 9.0.0 has PYSEC-1"),
        ([VULNERABLE], [SAFE, SKIPPED], 3, "SKIPPED"),
        ([VULNERABLE], None, 3, "SKIPPED"),
        # A registry without the database reports every package as not found, and pip-audit succeeds.
        ([SKIPPED], [SKIPPED], 3, "SKIPPED"),
        ([SAFE], [SAFE], 3, "SKIPPED"),
        (None, None, 3, "SKIPPED"),
    ],
)
def test_audit_prints_its_result_and_sets_the_exit_code(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    canary: list[dict[str, Any]] | None,
    lock: list[dict[str, Any]] | None,
    code: int,
    printed: str,
) -> None:
    fake_database(monkeypatch, canary, lock)
    assert audit.main(["the.lock"]) == code
    assert printed in capsys.readouterr().out
    assert audit.main(["--may-skip", "the.lock"]) == (0 if code == 3 else code)
    assert printed in capsys.readouterr().out


def test_missing_pip_audit_is_an_error(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert audit.main(["--may-skip", "the.lock"]) == 2
    assert "run make install" in capsys.readouterr().out
