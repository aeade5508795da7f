"""`--json FILE`: the summary of a command, for schedulers."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr_udf.cli.summary_file import SummaryFile
from faceattr_udf.errors import ConfigError
from jobs import enrich, ingest, maintain


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_job_writes_its_summary(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no picture")
    images, output, file = (str(tmp_path / name) for name in ("images", "out", "summary.json"))
    assert ingest.main(["--input", str(tmp_path / "photos"), "--images", images, "--json", file]) == 0
    done = read(Path(file))
    assert (done["command"], done["new"], done["table"], done["format"]) == ("ingest", 1, images, "delta")
    assert enrich.main(["--images", images, "--output", output, "--json", file]) == 0
    done = read(Path(file))
    assert (done["command"], done["state"], done["counts"], done["n_images"]) == (
        "enrich",
        "completed",
        {"unsupported": 1},
        1,
    )
    assert done["tables"]["faces"] == f"{output}/faces"
    assert maintain.main(["--output", output, "compact", "--json", file]) == 0
    done = read(Path(file))
    assert (done["command"], done["actions"]) == ("maintain", ["compact"])
    assert done["tables"]["runs"]["after"]["files"] == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_failed_command_leaves_no_summary_of_an_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_text("{}")
    assert enrich.main(["--images", str(tmp_path / "none"), "--output", str(tmp_path), "--json", str(file)]) == 2
    assert not file.exists()


def test_file_that_cannot_be_written_stops_the_command_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    pq.write_table(pa.table({"image_id": ["a"], "content": [b"x"]}), images / "a.parquet")
    file = tmp_path / "missing" / "summary.json"
    output = tmp_path / "out"
    assert enrich.main(["--images", str(images), "--output", str(output), "--json", str(file)]) == 2
    assert (
        f"enrich: --json {file} cannot be written (No such file or directory); name a file" in capsys.readouterr().err
    )
    assert not output.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        SummaryFile(tmp_path / "summary.json")
