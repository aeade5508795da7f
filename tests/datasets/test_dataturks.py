"""DataTurks exports, including their defects."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shared_data import SHARED, needs_shared

from faceattr_udf.cli import dataturks
from faceattr_udf.datasets.dataturks import LABELS as DATATURKS_LABELS
from faceattr_udf.datasets.dataturks import read_export
from faceattr_udf.datasets.labeled_faces import load_faces, read_table
from faceattr_udf.errors import SchemaError, TableNotFoundError
from faceattr_udf.labels import LABELS

CORNERS = [(0.25, 0.5), (0.5, 1.0)]


def _box(labels: list[str], corners: list[tuple[float, float]] = CORNERS) -> dict[str, Any]:
    points = [{"x": x, "y": y} for x, y in corners]
    return {"label": labels, "points": points, "imageWidth": 200, "imageHeight": 100, "notes": ""}


def _export(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "export.json"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def _photo(*boxes: dict[str, Any], name: str = "a.jpg") -> dict[str, Any]:
    return {"content": f"http://host/folder/{name}", "annotation": list(boxes), "extras": None}


@pytest.mark.parametrize("lines", [[], [""], ["{not json"], ["5", '"text"', "null"], ["[]"], [{"annotation": []}]])
def test_export_without_a_photograph_is_an_error(
    lines: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = _export(tmp_path, *lines)
    with pytest.raises(SchemaError, match="has no annotated photograph"):
        read_export(export)
    arguments = ["--export", str(export), "--faces", str(tmp_path / "faces.parquet")]
    assert dataturks.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "faces.parquet").exists()


ONE = json.dumps({"content": "http://host/\u2028é.jpg", "annotation": [_box(["G_Male"])]}, ensure_ascii=False)
ASCII = ONE.replace("\u2028é", "a")


@pytest.mark.parametrize(
    ("content", "faces"),
    [
        (f"[{ASCII},{ASCII}]".encode(), 2),
        (f"[\n{ASCII},\n{ASCII}\n]\n".encode(), 2),
        (f"[{ASCII}]\n[{ASCII}]\n".encode(), 2),
        (json.dumps(json.loads(ASCII), indent=2).encode(), 1),
        (f"{ASCII}\r\n\r\n{ASCII}\r\n".encode(), 2),
        (ONE.encode(), 1),
        (ASCII.encode("utf-8-sig"), 1),
        (ASCII.encode("utf-16"), 1),
        (ASCII.encode("utf-16-be"), 0),
        (ASCII.replace("a.jpg", "é.jpg").encode("latin-1"), 1),
        (ASCII.replace("a.jpg", "é.jpg").encode(), 1),
        (b"\xff" * 40 + b"\n" + ASCII.encode(), 1),
        (b"[" * 100_000 + b"\n" + ASCII.encode(), 1),
        (b"1" * 10_000 + b"\n" + ASCII.encode(), 1),
    ],
)
def test_other_shapes_and_encodings_are_read(content: bytes, faces: int, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(content)
    if not faces:
        with pytest.raises(SchemaError):
            read_export(path)
        return
    table, _ = read_export(path)
    assert table["gender"].to_pylist() == ["male"] * faces


def test_labels_are_mapped_in_any_order_and_spelling(tmp_path: Path) -> None:
    table, report = read_export(
        _export(tmp_path, _photo(_box(["G_ Female", "Emotion_Sad", "E_Hispanic", "Age_above_50"])))
    )
    (row,) = table.to_pylist()
    assert row["image_id"] == "a.jpg#0"
    assert (row["gender"], row["ethnicity"], row["emotion"]) == ("female", "latino_hispanic", "sadness")
    assert (row["age"], row["age_min"], row["age_max"]) == (None, 50.0, 100.0)
    assert row["box"] == {"x_min": 50.0, "y_min": 50.0, "x_max": 100.0, "y_max": 100.0}
    assert row["image"] is None
    assert report.noted == {}


def test_missing_duplicate_and_conflicting_labels_are_noted(tmp_path: Path) -> None:
    boxes = [
        _box(["Emotion_Happy"]),
        _box(["G_Male", "G_Male", "E_Arab", "Age_20_30", "Emotion_Happy"]),
        _box(["G_Male", "G_ Female", "E_Asian", "Age_20_30", "Emotion_Bored"]),
    ]
    table, report = read_export(_export(tmp_path, _photo(*boxes)))
    happy, duplicate, conflicting = table.to_pylist()
    assert (happy["gender"], happy["age_min"], happy["emotion"]) == (None, None, "happiness")
    assert report.noted["a.jpg#0"] == ["age missing", "gender missing", "ethnicity missing"]
    assert (duplicate["gender"], duplicate["ethnicity"]) == ("male", "middle_eastern")
    assert report.noted["a.jpg#1"] == ["duplicate label"]
    assert conflicting["gender"] is conflicting["emotion"] is None
    assert report.noted["a.jpg#2"] == [
        "unknown label: Emotion_Bored",
        "conflicting labels: gender left out",
        "emotion missing",
    ]


@pytest.mark.parametrize(
    ("labels", "ethnicity", "noted"),
    [
        (["E_Arab"], "middle_eastern", []),
        (["E_Hispanic"], "latino_hispanic", []),
        (["others"], "others", []),
        (["others", "others"], "others", ["duplicate label"]),
        (["E_Arab", "E_Hispanic"], None, ["conflicting labels: ethnicity left out"]),
    ],
)
def test_ethnicities_keep_their_class(
    labels: list[str], ethnicity: str | None, noted: list[str], tmp_path: Path
) -> None:
    table, report = read_export(_export(tmp_path, _photo(_box(["Face", *labels]))))
    assert table["ethnicity"].to_pylist() == [ethnicity]
    assert report.noted.get("a.jpg#0", []) == noted


def test_every_label_is_one_that_faces_may_have() -> None:
    assert {value for name, value in DATATURKS_LABELS.values() if name == "ethnicity"} == set(LABELS["ethnicity"])
    assert all(value in LABELS[name] for name, value in DATATURKS_LABELS.values() if name != "age")


def test_swapped_corners_are_reordered(tmp_path: Path) -> None:
    table, report = read_export(_export(tmp_path, _photo(_box(["Face"], [(0.5, 1.0), (0.25, 0.5)]))))
    assert table["box"].to_pylist() == [{"x_min": 50.0, "y_min": 50.0, "x_max": 100.0, "y_max": 100.0}]
    assert report.noted == {"a.jpg#0": ["corners swapped: reordered"]}


GOOD = _photo(_box(["Face"]), name="good.jpg")


@pytest.mark.parametrize(
    ("line", "location", "reason"),
    [
        ("{not json", "line 2", "not an annotated photograph: JSONDecodeError"),
        ("5", "line 2", "not an annotated photograph: int instead of an object"),
        ({"annotation": []}, "line 2", "not an annotated photograph: no field content"),
        ({"content": "a.jpg"}, "line 2", "not an annotated photograph: no field annotation"),
        ({**_photo(), "content": 5}, "line 2", "not an annotated photograph: content is int instead of text"),
        (
            {**_photo(), "content": "a\ud800.jpg"},
            "line 2",
            "not an annotated photograph: content has characters that no name has",
        ),
        ({**_photo(), "annotation": "x"}, "line 2", "not an annotated photograph: annotation is str instead of a list"),
        (_photo(), "a.jpg", "no boxes"),
        ({**_photo(), "annotation": None}, "a.jpg", "no boxes"),
        ({**_photo(), "annotation": [None]}, "a.jpg#0", "no usable box: NoneType instead of an object"),
        ({**_photo(), "annotation": ["x"]}, "a.jpg#0", "no usable box: str instead of an object"),
        (_photo(_box([])), "a.jpg#0", "no label"),
        (_photo({**_box([]), "label": 5}), "a.jpg#0", "no usable box: labels that are not text"),
        (_photo({**_box([]), "label": ["Face", 5]}), "a.jpg#0", "no usable box: labels that are not text"),
        (_photo(_box(["Not_Face", "G_Male"])), "a.jpg#0", "labeled Not_Face"),
        (_photo(_box(["Face"], [(0.5, 0.5), (0.5, 0.9)])), "a.jpg#0", "no usable box: no area inside the photograph"),
        (
            _photo(_box(["Face"], [(0.5, 0.5), (0.6, math.nan)])),
            "a.jpg#0",
            "no usable box: numbers that are not finite",
        ),
        (_photo({**_box(["Face"]), "imageWidth": math.inf}), "a.jpg#0", "no usable box: numbers that are not finite"),
        (_photo({**_box(["Face"]), "imageWidth": 0}), "a.jpg#0", "no usable box: no area inside the photograph"),
        (
            _photo({**_box(["Face"]), "imageWidth": 10**400}),
            "a.jpg#0",
            "no usable box: int too large to convert to float",
        ),
        (_photo({**_box(["Face"]), "points": 5}), "a.jpg#0", "no usable box: 'int' object is not iterable"),
        (
            _photo({**_box(["Face"]), "points": [[0.1, 0.2], [0.3, 0.4]]}),
            "a.jpg#0",
            "no usable box: list indices must be integers or slices, not str",
        ),
        (_photo({"label": ["Face"]}), "a.jpg#0", "no usable box: 'imageHeight'"),
    ],
)
def test_unusable_entries_are_rejected_with_a_reason(line: object, location: str, reason: str, tmp_path: Path) -> None:
    table, report = read_export(_export(tmp_path, GOOD, line))
    assert table["photograph"].to_pylist() == ["good.jpg"]
    assert report.rejected == {location: reason}


@pytest.mark.parametrize("boxes", [{**_box([]), "label": "G_Male"}, [{**_box([]), "label": "G_ Male"}]])
def test_one_label_or_box_needs_no_list(boxes: object, tmp_path: Path) -> None:
    table, _ = read_export(_export(tmp_path, {**_photo(), "annotation": boxes}))
    assert table["gender"].to_pylist() == ["male"]


def test_faces_are_cropped_from_their_photographs(tmp_path: Path) -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[50:, 50:100] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    export = _export(tmp_path, _photo(_box(["Face"]), name="a.png"), _photo(_box(["Face"]), name="gone.png"))
    table, report = read_export(export, tmp_path)
    (row,) = table.to_pylist()
    crop = np.asarray(Image.open(io.BytesIO(row["image"])))
    assert crop.shape == (75, 101, 3)  # with half the box's size on every side, inside the photograph
    assert crop[25:, 25:75].min() == 255
    assert crop[:25].max() == 0
    assert report.rejected == {"gone.png#0": "photograph cannot be read: No such file or directory"}


def test_missing_export_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TableNotFoundError, match=r"none\.json cannot be read"):
        read_export(tmp_path / "none.json")
    arguments = ["--export", str(tmp_path / "none.json"), "--faces", str(tmp_path / "faces.parquet")]
    assert dataturks.main(arguments) == 2
    assert "none.json cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "faces.parquet").exists()


@needs_shared
def test_published_exports_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = tmp_path / "faces.parquet"
    arguments = ["--export", str(SHARED / "dataturks" / "demographics.json"), "--faces", str(faces)]
    assert dataturks.main(arguments) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["photographs"], summary["boxes"], summary["faces"]) == (120, 351, 212)
    assert summary["rejected"] == {"labeled Not_Face": 138, "no label": 1, "no boxes": 1}
    table = pq.read_table(faces)
    assert table["gender"].to_pylist().count("female") == 107  # one of 108 is also labeled Not_Face
    ethnicities = table["ethnicity"].to_pylist()
    # Of nine such faces one is labeled both E_Arab and E_Hispanic, which conflict.
    counts = {name: ethnicities.count(name) for name in ("middle_eastern", "latino_hispanic", "others")}
    assert counts == {"middle_eastern": 1, "latino_hispanic": 6, "others": 1}
    # Evaluation can read the table, but without photographs it has no images.
    assert len(load_faces(read_table(faces), 64, 0.2).unreadable) == 212
    second, report = read_export(SHARED / "dataturks" / "face_detection.json")
    assert (len(second), report.rejected) == (1131, {})
