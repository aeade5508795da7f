"""Faces are cut the same way in training, in evaluation and in production."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shared_data import SHARED, needs_shared

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.attributes.labels import BINS
from faceattr_udf.config import Config
from faceattr_udf.datasets.labelled_faces import UNLABELLED, load_faces, read_table
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.errors import SchemaError, TableNotFoundError
from faceattr_udf.training.data.augment import ROOM, center_window, source_margin
from faceattr_udf.weights import WeightsRecord, load_record

COLUMNS = {
    "image_id": pa.string(),
    "image": pa.binary(),
    "source": pa.string(),
    "age": pa.float32(),
    "age_min": pa.float32(),
    "age_max": pa.float32(),
    "gender": pa.string(),
    "ethnicity": pa.string(),
    "emotion": pa.string(),
}


class Remembers:
    """A model that keeps the crops it is shown."""

    def __init__(self, record: WeightsRecord) -> None:
        self.record = record
        self.crops: list[np.ndarray] = []

    def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        self.crops.extend(crops)
        return {name: np.full((len(crops), size), 1 / size, np.float32) for name, size in BINS.items()}


def _table(rows: Sequence[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(COLUMNS.items())))


def _grey_square() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_no_faces() -> None:
    faces = load_faces(_table([]), 112, 0.2)
    assert len(faces) == 0
    assert faces.crops.shape == (0, 112, 112, 3)


def test_where_no_face_is_found_the_whole_image_is_the_face() -> None:
    faces = load_faces(_table([{"image_id": "a", "image": _grey_square(), "source": "x"}]), 60, 0.0)
    assert not faces.detected[0]
    assert (faces.crops[0, 10:50] == 90).all()
    assert (faces.crops[0, :10] == 0).all()


def test_labels_are_masked_where_a_source_has_none_and_counted_where_the_model_has_no_class() -> None:
    image = _grey_square()
    rows: list[dict[str, object]] = [
        {"age": 30.0, "age_min": 30.0, "age_max": 30.0, "gender": "male", "ethnicity": "others"},
        {"age_min": 20.0, "age_max": 36.0, "emotion": "contempt"},
        {"age": 7.0, "emotion": "disgust"},
        {},
    ]
    faces = load_faces(
        _table([{"image_id": str(i), "image": image, "source": "x", **r} for i, r in enumerate(rows)]), 16, 0
    )
    assert faces.age_range.tolist() == [[30, 30], [20, 36], [7, 7], [UNLABELLED, UNLABELLED]]
    assert faces.labels["gender"].tolist() == [1, UNLABELLED, UNLABELLED, UNLABELLED]
    assert faces.labels["ethnicity"].tolist() == [4, UNLABELLED, UNLABELLED, UNLABELLED]
    assert faces.labels["emotion"].tolist() == [UNLABELLED, UNLABELLED, 6, UNLABELLED]
    assert faces.unknown["emotion"].tolist() == [False, True, False, False]
    assert faces.unknown_labels == {"gender": {}, "ethnicity": {}, "emotion": {"contempt": 1}}


def test_a_row_whose_image_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [("a", _grey_square()), ("broken", b"no image"), ("null", None), ("b", _grey_square())]
    table = _table([{"image_id": i, "image": image, "source": i, "gender": "male"} for i, image in rows])
    for _ in range(2):  # from the cache, too
        faces = load_faces(table, 32, 0.2, cache=tmp_path / "cuts")
        assert faces.source.tolist() == ["a", "b"]
        assert faces.unreadable == ("broken", "null")
        assert faces.crops.shape == (2, 32, 32, 3)
        assert faces.labels["gender"].tolist() == [1, 1]


def test_a_person_is_one_within_a_source(tmp_path: Path) -> None:
    columns = {
        **{name: [None] * 4 for name in COLUMNS},
        "image_id": ["a", "b", "c", "d"],
        "source": ["x", "x", "y", "x"],
    }
    schema = pa.schema([*COLUMNS.items(), ("identity", pa.string())])
    columns["image"] = [_grey_square()] * 4
    pq.write_table(pa.table({**columns, "identity": ["p", None, "p", "p"]}, schema=schema), tmp_path / "faces.parquet")
    assert load_faces(read_table(tmp_path / "faces.parquet"), 16, 0.0).identity.tolist() == [0, UNLABELLED, 1, 0]


def test_a_grey_model_is_shown_grey_photographs() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), (200, 100, 0), np.uint8)).save(buffer, "PNG")
    faces = load_faces(_table([{"image_id": "a", "image": buffer.getvalue(), "source": "x"}]), 40, 0.0, grayscale=True)
    (level,) = np.unique(faces.crops)
    assert level == pytest.approx(0.299 * 200 + 0.587 * 100, abs=1)


def test_cuts_are_kept_and_found_again(tmp_path: Path) -> None:
    table = _table([{"image_id": "a", "image": _grey_square(), "source": "x"}])
    first = load_faces(table, 32, 0.2, cache=tmp_path / "cuts" / "val")
    again = load_faces(table, 32, 0.2, cache=tmp_path / "cuts" / "val")
    assert (first.crops == again.crops).all()
    assert (first.detected == again.detected).all()


def test_a_file_that_is_missing_or_has_other_columns_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError, match=r"faces\.parquet not found"):
        read_table(tmp_path / "faces.parquet")
    pq.write_table(pa.table({"image_id": ["a"], "image": [b""], "source": ["x"]}), tmp_path / "faces.parquet")
    with pytest.raises(SchemaError, match="lack the column age, age_min"):
        read_table(tmp_path / "faces.parquet")


def test_the_analyzer_cuts_what_evaluation_cuts(demo_faces: pa.Table) -> None:
    record = load_record("attributes_default")
    faces = load_faces(demo_faces, record.input_size, record.margin)
    model = Remembers(record)
    config = Config.load(None, ["detector.largest_only=true"])
    results = FaceAnalyzer(config, Detector(config.detector), model).analyze(demo_faces["image"].to_pylist())
    assert [result.n_faces > 0 for result in results] == faces.detected.tolist()
    assert 20 < len(model.crops) <= 40
    for ours, production in zip(faces.crops[faces.detected], model.crops, strict=True):
        assert (ours == production).all()


@needs_shared
def test_the_middle_of_a_training_cut_is_the_cut_of_production() -> None:
    # Faces of every source: they are framed differently.
    table = read_table(SHARED / "faces-val.parquet")
    photographs = table.take(list(range(0, len(table), len(table) // 60)))
    record = load_record("attributes_default")
    size, margin = record.input_size, record.margin
    production = load_faces(photographs, size, margin)
    training = load_faces(photographs, round(size * ROOM), source_margin(margin))
    middle = center_window(training.crops, size)
    difference = np.abs(middle.astype(float) - production.crops).mean(axis=(1, 2, 3))
    # Faces about as large as the cut are shrunk from whole pixels, half a pixel apart at most.
    assert np.median(difference) < 4
    assert difference.max() < 8
    shifted = np.abs(np.roll(middle, 4, axis=2).astype(float) - production.crops).mean(axis=(1, 2, 3))
    assert np.median(shifted) > 4 * np.median(difference)
