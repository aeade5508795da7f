"""Faces are cropped the same way in training, evaluation and production."""

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
from faceattr_udf.config import Config
from faceattr_udf.datasets.labeled_faces import UNLABELED, load_faces, read_table
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.errors import SchemaError, TableNotFoundError
from faceattr_udf.labels import NUM_CLASSES
from faceattr_udf.training.data.augment import TRAINING_CROP_SCALE, center_crop, training_margin
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


class RecordingPredictor:
    """A model that keeps the crops that it gets."""

    def __init__(self, record: WeightsRecord) -> None:
        self.record = record
        self.crops: list[np.ndarray] = []

    def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        self.crops.extend(crops)
        return {name: np.full((len(crops), size), 1 / size, np.float32) for name, size in NUM_CLASSES.items()}


def _table(rows: Sequence[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(COLUMNS.items())))


def _gray_square() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_empty_table_has_no_faces() -> None:
    faces = load_faces(_table([]), 112, 0.2)
    assert len(faces) == 0
    assert faces.crops.shape == (0, 112, 112, 3)


def test_whole_image_is_the_crop_if_no_face_is_found() -> None:
    faces = load_faces(_table([{"image_id": "a", "image": _gray_square(), "source": "x"}]), 60, 0.0)
    assert not faces.detected[0]
    assert (faces.crops[0, 10:50] == 90).all()
    assert (faces.crops[0, :10] == 0).all()


def test_missing_labels_are_masked_and_unknown_ones_counted() -> None:
    image = _gray_square()
    rows: list[dict[str, object]] = [
        {"age": 30.0, "age_min": 30.0, "age_max": 30.0, "gender": "male", "ethnicity": "others"},
        {"age_min": 20.0, "age_max": 36.0, "emotion": "contempt"},
        {"age": 7.0, "emotion": "disgust"},
        {},
    ]
    faces = load_faces(
        _table([{"image_id": str(i), "image": image, "source": "x", **r} for i, r in enumerate(rows)]), 16, 0
    )
    assert faces.age_range.tolist() == [[30, 30], [20, 36], [7, 7], [UNLABELED, UNLABELED]]
    assert faces.labels["gender"].tolist() == [1, UNLABELED, UNLABELED, UNLABELED]
    assert faces.labels["ethnicity"].tolist() == [4, UNLABELED, UNLABELED, UNLABELED]
    assert faces.labels["emotion"].tolist() == [UNLABELED, UNLABELED, 6, UNLABELED]
    assert faces.unknown["emotion"].tolist() == [False, True, False, False]
    assert faces.unknown_labels == {"gender": {}, "ethnicity": {}, "emotion": {"contempt": 1}}


def test_unreadable_images_are_left_out_and_listed(tmp_path: Path) -> None:
    rows = [("a", _gray_square()), ("broken", b"no image"), ("null", None), ("b", _gray_square())]
    table = _table([{"image_id": i, "image": image, "source": i, "gender": "male"} for i, image in rows])
    for _ in range(2):  # the second time from the cache
        faces = load_faces(table, 32, 0.2, cache=tmp_path / "crops")
        assert faces.source.tolist() == ["a", "b"]
        assert faces.unreadable == ("broken", "null")
        assert faces.crops.shape == (2, 32, 32, 3)
        assert faces.labels["gender"].tolist() == [1, 1]


def test_identity_is_unique_within_a_source(tmp_path: Path) -> None:
    columns = {
        **{name: [None] * 4 for name in COLUMNS},
        "image_id": ["a", "b", "c", "d"],
        "source": ["x", "x", "y", "x"],
    }
    schema = pa.schema([*COLUMNS.items(), ("identity", pa.string())])
    columns["image"] = [_gray_square()] * 4
    pq.write_table(pa.table({**columns, "identity": ["p", None, "p", "p"]}, schema=schema), tmp_path / "faces.parquet")
    assert load_faces(read_table(tmp_path / "faces.parquet"), 16, 0.0).identity.tolist() == [0, UNLABELED, 1, 0]


def test_grayscale_model_gets_grayscale_photographs() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), (200, 100, 0), np.uint8)).save(buffer, "PNG")
    faces = load_faces(_table([{"image_id": "a", "image": buffer.getvalue(), "source": "x"}]), 40, 0.0, grayscale=True)
    (level,) = np.unique(faces.crops)
    assert level == pytest.approx(0.299 * 200 + 0.587 * 100, abs=1)


def test_cached_crops_are_reused(tmp_path: Path) -> None:
    table = _table([{"image_id": "a", "image": _gray_square(), "source": "x"}])
    first = load_faces(table, 32, 0.2, cache=tmp_path / "crops" / "val")
    again = load_faces(table, 32, 0.2, cache=tmp_path / "crops" / "val")
    assert (first.crops == again.crops).all()
    assert (first.detected == again.detected).all()


def test_missing_file_or_column_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError, match=r"faces\.parquet not found"):
        read_table(tmp_path / "faces.parquet")
    pq.write_table(pa.table({"image_id": ["a"], "image": [b""], "source": ["x"]}), tmp_path / "faces.parquet")
    with pytest.raises(SchemaError, match="lack the columns age, age_min"):
        read_table(tmp_path / "faces.parquet")


def test_analyzer_and_evaluation_crop_the_same(demo_faces: pa.Table) -> None:
    record = load_record("attributes_default")
    faces = load_faces(demo_faces, record.input_size, record.margin)
    model = RecordingPredictor(record)
    config = Config.load(None, ["detector.largest_only=true"])
    results = FaceAnalyzer(config, Detector(config.detector), model).analyze(demo_faces["image"].to_pylist())
    assert [result.n_faces > 0 for result in results] == faces.detected.tolist()
    assert 20 < len(model.crops) <= 40
    for ours, production in zip(faces.crops[faces.detected], model.crops, strict=True):
        assert (ours == production).all()


@needs_shared
def test_center_of_training_crops_matches_production() -> None:
    # Every source frames its faces differently.
    table = read_table(SHARED / "faces-val.parquet")
    photographs = table.take(list(range(0, len(table), len(table) // 60)))
    record = load_record("attributes_default")
    size, margin = record.input_size, record.margin
    production = load_faces(photographs, size, margin)
    training = load_faces(photographs, round(size * TRAINING_CROP_SCALE), training_margin(margin))
    middle = center_crop(training.crops, size)
    difference = np.abs(middle.astype(float) - production.crops).mean(axis=(1, 2, 3))
    # Faces about as large as the crop are resampled from whole pixels, at most half a pixel apart.
    assert np.median(difference) < 4
    assert difference.max() < 8
    shifted = np.abs(np.roll(middle, 4, axis=2).astype(float) - production.crops).mean(axis=(1, 2, 3))
    assert np.median(shifted) > 4 * np.median(difference)
