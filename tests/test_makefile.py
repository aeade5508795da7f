"""Tests the Makefile: its targets install once, and errors are one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # `make test` exports its own variables to this process; they must not reach the inner make.
    environment = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKEOVERRIDES", "VENV"}}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def _last_change() -> float:
    """Returns the modification time of the newer of the files that decide what is installed."""
    return max((ROOT / name).stat().st_mtime for name in ("pyproject.toml", "requirements-dev.lock"))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Returns a folder that make takes for an up-to-date virtual environment."""
    stamp = tmp_path / ".installed"
    stamp.touch()
    os.utime(stamp, (_last_change() + 10, _last_change() + 10))
    return tmp_path


def test_make_without_a_target_lists_the_targets() -> None:
    finished = _make()
    assert finished.returncode == 0
    assert {"make demo", "make test"} <= {" ".join(line.split()[:2]) for line in finished.stdout.splitlines()}


@pytest.mark.parametrize("target", ["install", "demo", "test", "lint", "docs", "wheel-test", "audit"])
def test_targets_install_first_and_only_once(target: str, installed: Path, tmp_path: Path) -> None:
    fresh = _make("--dry-run", f"VENV={tmp_path / 'fresh'}", target)
    again = _make("--dry-run", f"VENV={installed}", target)
    assert "pip install" in fresh.stdout
    assert "pip install" not in again.stdout


def test_changed_pyproject_or_lock_installs_again(installed: Path) -> None:
    os.utime(installed / ".installed", (_last_change() - 10, _last_change() - 10))
    assert "pip install" in _make("--dry-run", f"VENV={installed}", "install").stdout


def test_missing_python_is_an_error(tmp_path: Path) -> None:
    finished = _make(f"VENV={tmp_path / 'fresh'}", "PYTHON=", "install")
    assert finished.returncode == 2
    assert "no Python 3.11" in finished.stderr


def test_missing_photo_folder_is_named(installed: Path, tmp_path: Path) -> None:
    (installed / "bin").symlink_to(Path(sys.executable).parent)
    finished = _make(f"VENV={installed}", f"PHOTOS={tmp_path / 'no such folder'}", "demo")
    assert finished.returncode == 2
    assert "no such folder is not a folder" in finished.stderr


@pytest.mark.parametrize(("target", "commands"), [("install", 3), ("package", 2)])
def test_only_locked_packages_are_installed(target: str, commands: int, tmp_path: Path) -> None:
    lines = [line for line in _make("--dry-run", f"VENV={tmp_path}", target).stdout.splitlines() if "pip " in line]
    assert len(lines) == commands
    assert all("--require-hashes" in line or "--no-deps" in line for line in lines)
    assert not any("--no-deps" in line and "." in line.split() and "--no-build-isolation" not in line for line in lines)
