"""Versions of Spark, Delta and Java: one table, and errors that name what is wrong."""

import stat
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from faceattr_udf.errors import EngineError
from faceattr_udf.spark import jars, versions

ROOT = Path(__file__).parents[2]


def test_tested_versions_are_within_the_dependency_ranges() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    ranges = {requirement.name: requirement.specifier for requirement in map(Requirement, extras["spark"])}
    for spark, delta in versions.TESTED.values():
        assert spark in ranges["pyspark"]
        assert delta in ranges["delta-spark"]


@pytest.mark.parametrize(
    ("spark", "installed", "coordinates"),
    [
        ("3.5.3", None, "io.delta:delta-spark_2.12:3.3.2"),
        ("3.5.6-amzn-1", "3.3.0", "io.delta:delta-spark_2.12:3.3.0"),
        ("4.0.2", "4.0.0", "io.delta:delta-spark_2.13:4.0.0"),
        ("4.1.1", "4.2.0", "io.delta:delta-spark_4.1_2.13:4.2.0"),
        ("4.2.0", None, "io.delta:delta-spark_4.2_2.13:4.4.0"),
    ],
)
def test_jar_follows_from_the_version_of_spark(spark: str, installed: str | None, coordinates: str) -> None:
    assert versions.delta_coordinates(spark, installed) == coordinates


def test_unknown_spark_is_named() -> None:
    with pytest.raises(EngineError, match=r"no release of Delta is known for Spark 3\.4\.1; install pyspark .*3\.5"):
        versions.delta_coordinates("3.4.1", None)


def test_jar_is_known_without_the_package_delta_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(versions.importlib.metadata, "version", missing)
    assert jars.delta_package() == "io.delta:delta-spark_4.2_2.13:4.4.0"


@pytest.mark.parametrize(
    ("printed", "spark", "problem"),
    [
        ('openjdk version "17.0.2"', "4.2.0", None),
        ('openjdk version "11.0.2"', "3.5.9", None),
        ('openjdk version "11.0.2"', "4.0.2", "is version 11; Spark 4.0.2 needs Java 17 or 21"),
        ('java version "1.8.0_292"', "3.5.9", None),
        ("no version", "4.2.0", "is version unknown"),
    ],
)
def test_java_must_fit_spark(
    printed: str, spark: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho '{printed}' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    found = versions.java_problem(spark)
    assert found is None if problem is None else problem in str(found)


def test_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert versions.java_problem("4.2.0") == (
        "java is not on the PATH; install Java 17 or 21, and set JAVA_HOME or put java on the PATH"
    )
