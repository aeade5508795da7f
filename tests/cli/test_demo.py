"""The report reads tables that these tests write, so that no model runs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceattr_udf.cli.demo_report import report
from faceattr_udf.config import Config, OutputConfig
from faceattr_udf.errors import TableNotFoundError
from faceattr_udf.spark.locations import output_ref
from faceattr_udf.spark.schemas import IMAGE_RESULTS, faces_table
from faceattr_udf.spark.session import start
from faceattr_udf.spark.tables import Tables

PROVENANCE: dict[str, Any] = {
    "config_id": "c",
    "model_version": "m",
    "run_id": "r",
    "processed_at": datetime(2026, 1, 2, tzinfo=UTC),
}


def _face(image_id: str, face_index: int, **changes: Any) -> dict[str, Any]:
    left = 20.0 + 100 * face_index
    face: dict[str, Any] = {
        "image_id": image_id,
        "face_index": face_index,
        "bbox": {"x_min": left, "y_min": 20.0, "x_max": left + 60, "y_max": 90.0},
        "det_confidence": 0.99,
        "age": 33.6,
        "age_low": 27.0,
        "age_high": 41.0,
        "age_group": "30-39",
        "quality": {"face_px": 60.0, "blur": 0.1, "brightness": 0.5, "yaw": 0.0, "pitch": 0.0, "roll": 0.0},
    }
    for attribute, label in (("gender", "female"), ("ethnicity", "indian"), ("emotion", "happiness")):
        face |= {attribute: label, f"{attribute}_confidence": 0.91, f"{attribute}_probs": {label: 0.91}}
    return face | PROVENANCE | changes


def _write(folder: Path, faces: list[dict[str, Any]], statuses: dict[str, str]) -> None:
    config = Config()
    spark = start(config)
    tables = Tables(spark, config.engine.name)
    results = [
        {"image_id": image_id, "status": status, "width": 400, "height": 200, "n_faces": 0} | PROVENANCE
        for image_id, status in statuses.items()
    ]
    for name, rows, schema in (
        ("faces", faces, faces_table(OutputConfig())),
        ("image_results", results, IMAGE_RESULTS),
    ):
        ref = output_ref(name, str(folder))
        tables.ensure(ref, schema)
        if rows:
            ordered = [tuple(row.get(field) for field in schema.fieldNames()) for row in rows]
            tables.append(ref, spark.createDataFrame(ordered, schema))


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
    abstained = _face("summer/two.png", 1, age=None, age_group=None, gender=None)
    _write(
        tmp_path / "tables",
        [_face("summer/two.png", 0), abstained, _face("gone.png", 0)],
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
    _write(tmp_path / "tables", [_face(image_id, 0) for image_id in ids], dict.fromkeys(ids, "ok"))
    before = set(tmp_path.rglob("*"))
    _report(tmp_path)
    assert set(tmp_path.rglob("*")) - before == set()
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == len(ids)
    assert (captured.out + captured.err).replace("\n", "").isprintable()
