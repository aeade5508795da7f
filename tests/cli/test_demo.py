"""The report reads tables that these tests write, so that no model runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from face_tables import face_row, write_tables
from PIL import Image

from faceattr_udf.cli.demo_report import report
from faceattr_udf.config import Config
from faceattr_udf.errors import TableNotFoundError
from faceattr_udf.spark.session import start


def _write(folder: Path, faces: list[dict[str, Any]], statuses: dict[str, str]) -> None:
    write_tables(start(Config()), folder, faces, statuses)


def _report(folder: Path) -> None:
    config = Config()
    report(start(config), config, folder / "photos", str(folder / "tables"), folder / "pictures", max_pictures=50)


def test_report_without_faces_writes_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "tables", [], {"tree.png": "no_face"})
    _report(tmp_path)
    output = capsys.readouterr().out
    assert "no_face  1" in output
    assert not (tmp_path / "pictures").exists()


def test_report_prints_and_draws_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photos" / "summer" / "two.png"
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (400, 200), "grey").save(photo)
    abstained = face_row("summer/two.png", 1, age=None, age_group=None, gender=None)
    _write(
        tmp_path / "tables",
        [face_row("summer/two.png", 0), abstained, face_row("gone.png", 0)],
        {"summer/two.png": "ok", "gone.png": "ok", "broken.jpg": "corrupt"},
    )
    _report(tmp_path)
    captured = capsys.readouterr()
    lines = [line.split() for line in captured.out.splitlines()]
    assert ["corrupt", "1"] in lines
    assert ["ok", "2"] in lines
    assert ["summer/two.png", "0", "34", "(27-41)", "female", "91%", "indian", "91%", "happiness", "91%"] in lines
    assert ["summer/two.png", "1", "?", "(27-41)", "?", "91%", "indian", "91%", "happiness", "91%"] in lines
    # The answer of the example query: two of three faces are women in their thirties.
    assert ["30-39", "female", "2", "0.91"] in lines
    drawing = tmp_path / "pictures" / "summer" / "two.png.jpg"
    with Image.open(drawing) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert pixels.shape == (500, 1000, 3)
    assert np.ptp(pixels) > 100
    assert str(tmp_path / "pictures") in captured.out
    assert "gone.png is not annotated" in captured.err


def test_missing_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError, match="tables"):
        _report(tmp_path)


def test_image_id_outside_the_folders_is_not_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for place in ("photos", "."):
        Image.new("RGB", (400, 200), "grey").save(tmp_path / place / "a.png")
    ids = ["../a.png", "../photos/a.png", str(tmp_path / "photos" / "a.png"), "\x1b[2Ja\n.png"]
    _write(tmp_path / "tables", [face_row(image_id, 0) for image_id in ids], dict.fromkeys(ids, "ok"))
    before = set(tmp_path.rglob("*"))
    _report(tmp_path)
    assert set(tmp_path.rglob("*")) - before == set()
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == len(ids)
    assert (captured.out + captured.err).replace("\n", "").isprintable()
