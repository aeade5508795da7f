"""`faceattr doctor`: each check passes here, and fails with a fix where it should."""

import stat
from pathlib import Path
from typing import Any

import pytest

from faceattr_udf.cli import doctor, doctor_engine
from faceattr_udf.config import Config


def _config(*overrides: str) -> Config:
    return Config.load(None, overrides)


def test_default_configuration_is_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--output", str(tmp_path / "new"), "--start"]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("ready\n")
    assert "failed" not in printed
    for name in ("Query", "Workers", "Delta", "Lease"):
        assert f"ok       {name}" in printed
    assert not any((tmp_path / "new").iterdir())


def test_failed_check_gives_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--set", "attributes.weights=/nowhere"]) == 2
    printed = capsys.readouterr().out
    assert "failed   Models     weights file attributes_default.json is missing from /nowhere" in printed
    assert printed.endswith("1 checks failed\n")


def test_missing_engine_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise doctor.PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "version", missing)
    check = doctor.check_engine(_config())
    assert (check.state, check.fix) == ("failed", "pip install 'faceattr_udf[sail]'")


def _java(folder: Path, printed: str) -> None:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{printed}' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)


def test_workers_without_the_package_fail_with_its_name() -> None:
    class Workers:
        """A session whose Python workers lack the package."""

        def range(self, *_: int) -> "Workers":
            return self

        def mapInArrow(self, *_: object) -> "Workers":  # noqa: N802 - Spark's own name
            return self

        def first(self) -> None:
            msg = "Traceback (most recent call last):\n  ...\nModuleNotFoundError: No module named 'faceattr_udf'\n\n"
            raise RuntimeError(msg)

    workers: Any = Workers()
    check = doctor_engine.check_workers(workers)
    assert (check.state, check.detail) == ("failed", "ModuleNotFoundError: No module named 'faceattr_udf'")
    assert "--archives" in check.fix


def test_place_without_a_lease_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = doctor_engine.check_lease(_config(), str(tmp_path / "file"))
    assert check.state == "failed"


@pytest.mark.parametrize(
    ("printed", "state"),
    [
        ('openjdk version "17.0.2" 2022-01-18', "ok"),
        ('openjdk version "21" 2023-09-19', "ok"),
        ('java version "1.8.0_292"', "failed"),
        ("no version", "failed"),
    ],
)
def test_java_version_is_checked(printed: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _java(tmp_path, printed)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert doctor.check_java(_config("engine.name=spark")).state == state


def test_missing_java_fails_only_where_spark_needs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_java(_config()).state == "skipped"
    check = doctor.check_java(_config("engine.name=spark"))
    assert check.state == "failed"
    assert "install Java 17 or 21" in check.fix


def test_missing_delta_jar_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert doctor.check_delta(_config()).state == "skipped"
    assert doctor.check_delta(_config("engine.name=spark")).state == "warning"
    local = _config("engine.name=spark", "engine.settings.spark.jars=/jars/delta-spark_4.1_2.13-4.4.0.jar")
    assert doctor.check_delta(local).state == "ok"


@pytest.mark.parametrize(("device", "state"), [("cpu", "skipped"), ("auto", "skipped"), ("cuda", "failed")])
def test_missing_gpu_fails_only_where_it_is_required(device: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.check_gpu(_config(f"runtime.device={device}")).state == state


def test_unwritable_output_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = doctor.check_output(str(tmp_path / "file"))
    assert check.state == "failed"
    assert str(tmp_path / "file") in check.detail
