"""The scripts behind `make package` and the commit hook."""

import runpy
import zipfile
from pathlib import Path

import pytest

CI = Path(__file__).parents[1] / ".ci"


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("Retry merges only while the lease is held\n\nA long body.", None),
        ("", "begin with a capital letter"),
        ("retry merges", "begin with a capital letter"),
        ("Retry merges.", "remove the full stop"),
        ("A" * 73, "it has 73 characters; 72 are the limit"),
    ],
)
def test_commit_subject_is_checked(message: str, problem: str | None) -> None:
    assert runpy.run_path(str(CI / "commit_subject.py"))["problem"](message) == problem


def test_executors_archive_leaves_out_training_and_benchmarks(tmp_path: Path) -> None:
    wheel, archive = tmp_path / "wheel.whl", tmp_path / "archive.zip"
    kept = ["faceattr_udf/analyzer.py", "faceattr_udf/spark/udf.py", "faceattr_udf/conf/default.toml"]
    left_out = [
        "faceattr_udf/training/loop.py",
        "faceattr_udf/benchmarks/core.py",
        "faceattr_udf/conf/train/default.toml",
    ]
    with zipfile.ZipFile(wheel, "w") as file:
        for name in (*kept, *left_out):
            file.writestr(name, name)
    runpy.run_path(str(CI / "executors_zip.py"))["copy"](wheel, archive)
    with zipfile.ZipFile(archive) as file:
        assert {name: file.read(name).decode() for name in file.namelist()} == {name: name for name in kept}
