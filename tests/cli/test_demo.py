"""The report is read from tables made here, so that it is tested without a model."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceattr_udf.config import Config, OutputConfig
from faceattr_udf.spark.locations import output_ref
from faceattr_udf.spark.schemas import IMAGE_RESULTS, faces_table
from faceattr_udf.spark.session import start
from faceattr_udf.spark.tables import Tables
from jobs.demo import main

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


def _run(folder: Path, *extra: str) -> int:
    arguments = ["--input", folder / "photos", "--tables", folder / "tables", "--pictures", folder / "pictures"]
    return main([*map(str, arguments), *extra])


def test_a_run_that_found_no_face_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "tables", [], {"tree.png": "no_face"})
    assert _run(tmp_path) == 0
    output = capsys.readouterr().out
    assert "no_face  1" in output
    assert not (tmp_path / "pictures").exists()


def test_faces_are_printed_for_a_person_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photos" / "summer" / "two.png"
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (400, 200), "grey").save(photo)
    abstained = _face("summer/two.png", 1, age=None, age_group=None, gender=None)
    _write(
        tmp_path / "tables",
        [_face("summer/two.png", 0), abstained, _face("gone.png", 0)],
        {"summer/two.png": "ok", "gone.png": "ok", "broken.jpg": "corrupt"},
    )
    assert _run(tmp_path) == 0
    captured = capsys.readouterr()
    lines = [line.split() for line in captured.out.splitlines()]
    assert ["corrupt", "1"] in lines
    assert ["ok", "2"] in lines
    assert ["summer/two.png", "0", "34", "(27-41)", "female", "91%", "indian", "91%", "happiness", "91%"] in lines
    assert ["summer/two.png", "1", "?", "(27-41)", "?", "91%", "indian", "91%", "happiness", "91%"] in lines
    # The query's own answer: of three faces two are women in their thirties.
    assert ["30-39", "female", "2", "0.91"] in lines
    drawing = tmp_path / "pictures" / "summer" / "two.png.jpg"
    with Image.open(drawing) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert pixels.shape == (500, 1000, 3)
    assert np.ptp(pixels) > 100
    assert str(tmp_path / "pictures") in captured.out
    assert "gone.png is not drawn" in captured.err


def test_a_folder_without_tables_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "tables") in error
    assert len(error.splitlines()) == 1


def test_an_image_id_leads_out_of_neither_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for place in ("photos", "."):
        Image.new("RGB", (400, 200), "grey").save(tmp_path / place / "a.png")
    ids = ["../a.png", "../photos/a.png", str(tmp_path / "photos" / "a.png"), "\x1b[2Ja\n.png"]
    _write(tmp_path / "tables", [_face(image_id, 0) for image_id in ids], dict.fromkeys(ids, "ok"))
    before = set(tmp_path.rglob("*"))
    assert _run(tmp_path) == 0
    assert set(tmp_path.rglob("*")) - before == set()
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == len(ids)
    assert (captured.out + captured.err).replace("\n", "").isprintable()
