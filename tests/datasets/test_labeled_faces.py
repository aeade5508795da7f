"""Faces are cropped the same way in training, evaluation and production."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shared_data import SHARED, needs_shared

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.config import Config, DetectorConfig
from faceattr_udf.datasets import labeled_faces
from faceattr_udf.datasets.labeled_faces import UNLABELED, UNREADABLE, FaceCropper, load_faces, read_table
from faceattr_udf.detection.mtcnn import Detections, Detector
from faceattr_udf.errors import SchemaError, TableNotFoundError
from faceattr_udf.images.crop import crop_face
from faceattr_udf.labels import LABELS, NUM_CLASSES
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


def _row(**values: object) -> dict[str, object]:
    return {"image_id": "a", "image": _gray_square(), "source": "x", **values}


@pytest.mark.parametrize("content", [b"", b"image_id,image\n", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_file_that_is_no_parquet_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "faces.parquet"
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"faces\.parquet cannot be read as Parquet .*pass a Parquet file"):
        read_table(path)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_cut_file_is_an_error(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "faces.parquet"
    pq.write_table(_table([_row()]), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(SchemaError, match="cannot be read as Parquet"):
        read_table(path)


def test_damaged_pages_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "faces.parquet"
    pq.write_table(_table([_row()] * 50), path)
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(SchemaError, match="cannot be read as Parquet"):
        read_table(path)


def test_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="is a folder"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "type_", "told"),
    [
        ("age", pa.string(), "age is string instead of a number"),
        ("age_max", pa.list_(pa.float32()), "instead of a number"),
        ("gender", pa.int64(), "gender is int64 instead of text"),
        ("image", pa.string(), "image is string instead of binary"),
        ("image", pa.struct([("bytes", pa.binary())]), "image is struct<bytes: binary> instead of binary"),
        ("image_id", pa.float64(), "image_id is double instead of text"),
    ],
)
def test_column_of_another_type_is_an_error(name: str, type_: pa.DataType, told: str, tmp_path: Path) -> None:
    path = tmp_path / "faces.parquet"
    pq.write_table(pa.table({column: pa.nulls(1, {**COLUMNS, name: type_}[column]) for column in COLUMNS}), path)
    with pytest.raises(SchemaError, match="have unusable columns") as caught:
        read_table(path)
    assert told in str(caught.value)


def test_column_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    table = _table([_row()])
    pq.write_table(pa.table([*table.columns, table["image"]], names=[*COLUMNS, "image"]), tmp_path / "faces.parquet")
    with pytest.raises(SchemaError, match="image is there more than once"):
        read_table(tmp_path / "faces.parquet")


def test_types_of_other_programs_are_read(tmp_path: Path) -> None:
    types = {
        name: pa.dictionary(pa.int32(), type_) if type_ == pa.string() else type_ for name, type_ in COLUMNS.items()
    }
    types |= {"age": pa.float16(), "age_min": pa.decimal128(5, 1), "age_max": pa.int8(), "emotion": pa.null()}
    types |= {"image": pa.large_binary(), "image_id": pa.large_string()}
    rows = [_row(age=np.float16(30), age_min=None, age_max=None, gender="male", ethnicity="white")]
    columns = {name: pa.array([row.get(name) for row in rows], types[name]) for row in rows for name in COLUMNS}
    pq.write_table(pa.table(columns), tmp_path / "faces.parquet")
    faces = load_faces(read_table(tmp_path / "faces.parquet"), 32, 0.0)
    assert faces.age_range.tolist() == [[30, 30]]
    assert (faces.labels["gender"][0], faces.labels["emotion"][0]) == (LABELS["gender"].index("male"), UNLABELED)


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ((float("nan"), None, None), (UNLABELED, UNLABELED)),
        ((30.0, float("nan"), float("nan")), (30, 30)),
        ((30.0, 20.0, float("nan")), (30, 30)),
        ((float("nan"), 20.0, 29.0), (20, 29)),
        ((float("inf"), None, None), (UNLABELED, UNLABELED)),
    ],
)
def test_age_that_is_not_a_number_is_no_age(ages: tuple[float | None, ...], expected: tuple[int, int]) -> None:
    row = _row(**dict(zip(("age", "age_min", "age_max"), ages, strict=True)))
    faces = load_faces(_table([row]), 32, 0.0)
    assert tuple(faces.age_range[0]) == expected
    assert faces.labeled("age").tolist() == [expected[0] != UNLABELED]


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
    assert faces.labels["ethnicity"].tolist() == [LABELS["ethnicity"].index("others"), UNLABELED, UNLABELED, UNLABELED]
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


def _noise(height: int, width: int) -> tuple[np.ndarray, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return pixels, buffer.getvalue()


class OneFace:
    """A detector that finds a face over a part of the image's width, and keeps the sizes of the images."""

    def __init__(self, width: float | None) -> None:
        self.width = width
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        self.sizes += [image.shape[:2] for image in images]
        return [self._detections(image.shape[1]) for image in images]

    def _detections(self, image_width: int) -> Detections:
        side = 0.0 if self.width is None else self.width * image_width
        boxes = np.array([] if self.width is None else [[0.0, 0.0, side, side]], np.float32).reshape(-1, 4)
        return Detections(boxes, np.ones(len(boxes), np.float32), np.zeros((len(boxes), 5, 2), np.float32))


@pytest.mark.parametrize(
    ("face", "face_px", "sizes"),
    [
        (0.5, None, [(60, 80)]),
        (0.5, 20, [(60, 80), (30, 40)]),  # the face is 40 pixels wide
        (0.5, 50, [(60, 80), (60, 80)]),  # never enlarged
        (None, 20, [(60, 80), (18, 24)]),  # no face: the image is a crop with a margin of 20 %
    ],
)
def test_images_shrink_until_the_face_has_the_width(
    face: float | None, face_px: int | None, sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = OneFace(face)
    monkeypatch.setattr(labeled_faces, "Detector", lambda _: detector)
    pixels, content = _noise(60, 80)
    cropper = FaceCropper(16, 0.2, DetectorConfig(), face_px=face_px)
    assert cropper.crop([])[0].shape == (0, 16, 16, 3)
    crops, states, sides = cropper.crop([content, None])
    assert detector.sizes == sizes
    assert states.tolist() == [face is not None, UNREADABLE]
    assert np.array_equal(sides, [np.nan if face is None else face * sizes[-1][1], np.nan], equal_nan=True)
    height, width = sizes[-1]
    image = pixels if width == 80 else cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    box = [0, 0, width, height] if face is None else [0, 0, face * width, face * width]
    assert (crops[0] == crop_face(image, box, 16, 0.2)).all()


def test_workers_shrink_images() -> None:
    pixels, content = _noise(40, 40)
    table = _table([{"image_id": "a", "image": content, "source": "x"}])
    crop = load_faces(table, 20, 0.0, face_px=10).crops[0]
    small = cv2.resize(pixels, (10, 10), interpolation=cv2.INTER_AREA)
    assert (crop == crop_face(small, [0, 0, 10, 10], 20, 0.0)).all()


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
