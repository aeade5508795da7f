"""One night on every other version of Spark that the dependency ranges admit; the tables are those of this version."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pyspark
import pytest
from cells import cells
from conftest import SPARK_SETTINGS, Engine
from night import night, night_on_spark

from faceattr_udf.spark.versions import TESTED, minor

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.xdist_group("cluster")]

ROOT = Path(__file__).parents[2]
OTHERS = {name: pair for name, pair in TESTED.items() if name != minor(pyspark.__version__)}


def environment_of(spark: str, delta: str) -> Path:
    """Returns the interpreter of an environment with other versions of Spark and Delta, and this one's other packages.

    It is kept below .cache: the packages are hundreds of megabytes.
    """
    folder = ROOT / ".cache" / f"spark-{spark}-{delta}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=False, symlinks=True, clear=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [*command, f"pyspark=={spark}", f"delta-spark=={delta}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"pyspark {spark} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        # After the installation, or pip would count these packages as installed.
        (packages / "others.pth").write_text(str(Path(pyspark.__file__).parents[1]) + "\n")
        (folder / "complete").touch()
    return python


@pytest.fixture(scope="module")
def expected(sail_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the embedded engine, which equal those of this version of Spark (other tests show that)."""
    folder = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        sail_engine.select(patch)
        night(folder, str(folder), [])
    return folder


@pytest.mark.parametrize("version", OTHERS)
def test_night_on_another_spark_writes_equal_tables(
    version: str, expected: Path, sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = environment_of(*OTHERS[version])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    told, _ = night_on_spark(python, tmp_path, str(tmp_path), SPARK_SETTINGS, inherited)
    assert told["spark"] == OTHERS[version][0]
    sail_engine.select(monkeypatch)
    for name in ("faces", "image_results"):
        written, wanted = (cells(sail_engine.read(folder / "out" / name), "path") for folder in (tmp_path, expected))
        assert wanted
        assert written == wanted
