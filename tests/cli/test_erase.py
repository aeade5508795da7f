"""`faceattr erase` on the command line: options, exit codes, and no id outside of the tables and the request."""

import json
from pathlib import Path

import pytest
from erasing import ODD, Erasing, photos
from workspaces import Workspace

from faceattr_udf.spark.lease import Lease
from jobs import erase as erase_job


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return ["--output", str(tmp_path / "out"), "--set", f"privacy.key_file={tmp_path / 'erasure.key'}"]


def test_ids_are_erased_and_not_told(
    workspace: Workspace, arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    erasing = Erasing(workspace)
    workspace.write(photos())
    workspace.run()
    ids, told = tmp_path / "ids.txt", tmp_path / "told.json"
    ids.write_text(f"photo-003\n{ODD}\nphoto-019\n", encoding="utf-8")
    arguments += ["--images", str(tmp_path / "images"), "--image-ids", str(ids)]
    with Lease(str(tmp_path / "out"), "a run", 60):
        assert erase_job.main(arguments) == 4
    assert erase_job.main([*arguments, "--json", str(told)]) == 0
    captured = capfd.readouterr()
    assert "3 ids asked for, 4 images with their copies; rows deleted: 4 of image_results" in captured.out
    assert "none holds an erased id" in captured.out
    data = json.loads(told.read_text(encoding="utf-8"))
    assert (data["command"], data["state"], data["hits"]) == ("erase", "done", [])
    for text in (captured.out, captured.err, told.read_text(encoding="utf-8")):
        assert not any(one in text for one in ("photo-003", "photo-019", "twin-of-019", "ünicode", "\\u00fcnicode"))
    assert erasing.hits("photo-003", "twin-of-019") == []
    assert erase_job.main([*arguments[:4], "--due"]) == 0
    assert "nothing is due" in capfd.readouterr().out


def test_one_wish_is_needed(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ids"
    for more in ([], ["--due", "--image-ids", str(file)], ["--subject-ids", str(file), "--image-ids", str(file)]):
        assert erase_job.main([*arguments, *more]) == 2
        assert "name one of --image-ids, --subject-ids and --due" in capsys.readouterr().err
    file.write_bytes(b"secret\xff")
    assert erase_job.main([*arguments, "--image-ids", str(file)]) == 2
    assert "secret" not in capsys.readouterr().err
