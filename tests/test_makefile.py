"""The commands a stranger types first: they install once, and refuse with a sentence."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A make that runs these tests must not hand its own variables down.
    environment = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKEOVERRIDES", "VENV"}}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def _changed() -> float:
    """When what is installed was changed last."""
    return max((ROOT / name).stat().st_mtime for name in ("pyproject.toml", "requirements-dev.lock"))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that make takes for an environment installed after the last change of what it installs."""
    stamp = tmp_path / ".installed"
    stamp.touch()
    os.utime(stamp, (_changed() + 10, _changed() + 10))
    return tmp_path


def test_make_alone_only_says_what_there_is() -> None:
    finished = _make()
    assert finished.returncode == 0
    assert {"make demo", "make test"} <= {" ".join(line.split()[:2]) for line in finished.stdout.splitlines()}


@pytest.mark.parametrize("target", ["install", "demo", "test", "lint", "audit"])
def test_every_command_installs_first_and_only_once(target: str, installed: Path, tmp_path: Path) -> None:
    fresh = _make("--dry-run", f"VENV={tmp_path / 'fresh'}", target)
    again = _make("--dry-run", f"VENV={installed}", target)
    assert "pip install" in fresh.stdout
    assert "pip install" not in again.stdout


def test_a_changed_pyproject_or_lock_installs_again(installed: Path) -> None:
    os.utime(installed / ".installed", (_changed() - 10, _changed() - 10))
    assert "pip install" in _make("--dry-run", f"VENV={installed}", "install").stdout


def test_a_machine_without_python_is_told_so(tmp_path: Path) -> None:
    finished = _make(f"VENV={tmp_path / 'fresh'}", "PYTHON=", "install")
    assert finished.returncode == 2
    assert "no Python 3.11" in finished.stderr


def test_a_photograph_folder_that_is_none_is_named(installed: Path, tmp_path: Path) -> None:
    finished = _make(f"VENV={installed}", f"PHOTOS={tmp_path / 'no such folder'}", "demo")
    assert finished.returncode == 2
    assert "no such folder is not a folder" in finished.stderr


@pytest.mark.parametrize("target", ["install", "package"])
def test_nothing_is_installed_that_is_not_locked(target: str, tmp_path: Path) -> None:
    lines = [line for line in _make("--dry-run", f"VENV={tmp_path}", target).stdout.splitlines() if "pip " in line]
    assert len(lines) == 3
    assert all("--require-hashes" in line or "--no-deps" in line for line in lines)
    assert not any("--no-deps" in line and "." in line.split() and "--no-build-isolation" not in line for line in lines)
