"""A file that cannot be written is told before any work, in one sentence and with exit code 2."""

from collections.abc import Callable
from pathlib import Path

import pytest

from faceattr_udf.cli.output_files import check_output_file
from faceattr_udf.errors import ConfigError
from jobs import benchmark, compare, dataturks, evaluate

COMMANDS = {
    "evaluate": (evaluate.main, ["--faces", "none.parquet", "--json", "{}"]),
    "evaluate --card": (evaluate.main, ["--faces", "none.parquet", "--json", "scores.json", "--card", "{}"]),
    "compare": (compare.main, ["--faces", "none.parquet", "--json", "{}"]),
    "benchmark": (benchmark.main, ["--photos", ".", "--json", "{}"]),
    "dataturks": (dataturks.main, ["--export", "export.json", "--faces", "{}"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_check_their_files_first(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "export.json").write_text("[]")
    main: Callable[[list[str]], int] = COMMANDS[name][0]
    arguments = [argument.replace("{}", "file/below") for argument in COMMANDS[name][1]]
    assert main(arguments) == 2
    assert "cannot be written" in (told := capsys.readouterr().err)
    assert "file/below" in told
    assert "Traceback" not in told


def test_file_that_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("before")
    check_output_file(file, "--json")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert file.read_text() == "before"


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--json .* cannot be written \(Is a directory\); name a file"):
        check_output_file(tmp_path, "--json")
