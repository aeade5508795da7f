"""The analyzer with small deterministic networks, then with the real ones on photographs."""

import dataclasses
import io
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import faceattr_udf
from faceattr_udf.analyzer import FaceAnalyzer, model_version
from faceattr_udf.config import Config
from faceattr_udf.detection.boxes import box_iou
from faceattr_udf.detection.mtcnn import Detections, Detector, detector_version
from faceattr_udf.errors import ArgumentError, ConfigError, EngineError, WeightsError
from faceattr_udf.images.crop import crop_face
from faceattr_udf.images.decode import decode_image
from faceattr_udf.labels import CLASSES
from faceattr_udf.results import CUT_SHORT, Face, ImageResult, ImageStatus
from faceattr_udf.weights import WeightsRecord

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos"
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"the shared photographs are not at {PHOTOS}")

SIZE, MARGIN = 32, 0.25
RECORD = WeightsRecord(
    name="small", version="v1", task="attributes", architecture="none", sha256={}, input_size=SIZE, margin=MARGIN,
    normalisation="none", licence="none",
)  # fmt: skip


class BrightSquares:
    """Detects the faces of `picture`, which encodes their number in the red channel of the first pixel."""

    def __init__(self, *, fails_on: int | None = None) -> None:
        self.batches: list[int] = []
        self.pixels: list[int] = []
        self.fails_on = fails_on

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        self.batches.append(len(images))
        self.pixels.append(sum(image.shape[0] * image.shape[1] for image in images))
        if any(image.shape[1] == self.fails_on for image in images):
            msg = "a message that quotes the image: secret"
            raise RuntimeError(msg)
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> Detections:
        n = int(image[0, 0, 0]) // 10
        sides = np.array([24.0 - 4 * index for index in range(n)], dtype=np.float32)
        x = np.arange(n, dtype=np.float32) * 10
        boxes = np.stack([x, x * 0 + 2, x + sides, 2 + sides], axis=1)
        points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], dtype=np.float32)
        landmarks = boxes[:, None, :2] + points * sides[:, None, None]
        return Detections(boxes.reshape(n, 4), np.linspace(0.99, 0.9, n, dtype=np.float32), landmarks)


class ByBrightness:
    """Predicts probabilities from the mean of a crop, so that tests detect swapped faces."""

    record = RECORD

    def __init__(
        self,
        *,
        embedding: bool = False,
        first: Mapping[str, float] = MappingProxyType({}),
        names: tuple[str, ...] = tuple(CLASSES),
    ) -> None:
        self.batches: list[int] = []
        self.embedding = embedding
        self.first = first
        self.names = names

    def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        assert crops.dtype == np.uint8
        assert crops.shape[1:] == (SIZE, SIZE, 3)
        self.batches.append(len(crops))
        mean = crops.mean(axis=(1, 2, 3)) / 255
        outputs = {"age": np.zeros((len(crops), 101), dtype=np.float32)}
        outputs["age"][np.arange(len(crops)), np.rint(mean * 100).astype(int)] = 1.0
        for name in self.names:
            n = len(CLASSES[name])
            outputs[name] = np.stack([mean, *[(1 - mean) / (n - 1)] * (n - 1)], axis=1).astype(np.float32)
        if self.embedding:
            outputs["embedding"] = np.stack([np.cos(mean), np.sin(mean)], axis=1).astype(np.float32)
        for name, value in self.first.items():
            outputs[name][:, 0] = value
        return outputs


def picture(n_faces: int, width: int = 64, height: int = 40, shade: int = 200) -> bytes:
    pixels = np.full((height, width, 3), shade, dtype=np.uint8)
    pixels[0, 0, 0] = 10 * n_faces
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def config(**sections: dict[str, Any]) -> Config:
    return Config.from_mapping(sections)


def analyzer(settings: Config | None = None, **parts: Any) -> FaceAnalyzer:
    return FaceAnalyzer(
        settings or Config(), parts.get("detector") or BrightSquares(), parts.get("predictor") or ByBrightness()
    )


def equal(one: ImageResult, other: ImageResult) -> bool:
    """Checks whether two results are equal, including their arrays."""
    return repr(one) == repr(other)


def test_no_images_give_no_results() -> None:
    detector = BrightSquares()
    assert analyzer(detector=detector).analyze([]) == []
    assert detector.batches == []


def test_single_face_has_all_fields() -> None:
    (result,) = analyzer(config(attributes={"min_confidence": 0})).analyze([picture(1)])
    assert (result.status, result.error, result.width, result.height) == ("ok", None, 64, 40)
    (face,) = result.faces
    assert face.face_index == 0
    assert (face.bbox.x_min, face.bbox.y_min, face.bbox.x_max, face.bbox.y_max) == (0, 2, 24, 26)
    assert face.det_confidence == pytest.approx(0.99)
    assert face.quality.face_px == 24
    assert face.landmarks.dtype == np.float32
    assert face.landmarks.shape == (5, 2)
    assert face.age is not None
    assert face.age.low <= face.age.age <= face.age.high  # type: ignore[operator]
    for name, labels in CLASSES.items():
        prediction = getattr(face, name)
        assert tuple(prediction.probs) == labels
        assert math.isclose(sum(prediction.probs.values()), 1, abs_tol=1e-5)
        assert prediction.probs[prediction.label] == prediction.confidence
    assert face.crop is None
    assert face.embedding is None


def test_results_are_in_the_order_of_the_images() -> None:
    contents = [None, picture(2), b"", b"<html>", picture(0), picture(3)[:-40], picture(1, width=48)]
    results = analyzer().analyze(contents)
    assert [r.status for r in results] == ["missing", "ok", "corrupt", "unsupported", "no_face", "corrupt", "ok"]
    assert [r.n_faces for r in results] == [0, 2, 0, 0, 0, 0, 1]
    assert [r.width for r in results] == [None, 64, None, None, 64, None, 48]
    assert [r.error is None for r in results] == [False, True, False, False, True, False, True]


def test_invalid_images_reach_no_network() -> None:
    detector, predictor = BrightSquares(), ByBrightness()
    analyzer(detector=detector, predictor=predictor).analyze([None, b"", b"no image"])
    analyzer(detector=detector, predictor=predictor).analyze([picture(0)])
    assert detector.batches == [1]
    assert predictor.batches == []


def test_attribute_batches_span_images() -> None:
    predictor = ByBrightness()
    settings = config(attributes={"batch_size": 4})
    results = analyzer(settings, predictor=predictor).analyze([picture(n) for n in (3, 0, 2, 1, 3)])
    assert [r.n_faces for r in results] == [3, 0, 2, 1, 3]
    assert predictor.batches == [4, 4, 1]


def test_faces_stay_with_their_image_in_any_batching() -> None:
    contents = [picture(1 + i % 3, width=60 + i, shade=40 + 20 * i) for i in range(9)]
    alone = [analyzer().analyze([content])[0] for content in contents]
    for size, pixels in ((1, 1), (2, 6000), (5, 10**6), (64, 10**6)):
        settings = config(attributes={"batch_size": size}, enrich={"max_batch_pixels": pixels})
        together = analyzer(settings).analyze(contents)
        assert all(equal(a, b) for a, b in zip(alone, together, strict=True))
    assert len({repr(result.faces[0].age) for result in alone}) > 5  # otherwise a swap would go unnoticed


def test_decoded_pixels_stay_below_max_batch_pixels() -> None:
    detector = BrightSquares()
    settings = config(enrich={"max_batch_pixels": 6000})
    sizes = [(64, 40), (64, 40), (64, 40), (200, 100), (64, 40), (10, 10)]
    results = analyzer(settings, detector=detector).analyze([picture(1, *size) for size in sizes])
    assert [(r.width, r.height) for r in results] == sizes
    assert detector.batches == [2, 1, 1, 2]
    assert [pixels for pixels in detector.pixels if pixels > 6000] == [20_000]  # one image above the limit


def test_image_above_max_pixels_takes_no_memory() -> None:
    detector = BrightSquares()
    settings = config(images={"max_pixels": 5000}, enrich={"max_batch_pixels": 6000})
    results = analyzer(settings, detector=detector).analyze([picture(1), picture(1, 100, 80), picture(1)])
    assert [r.status for r in results] == ["ok", "too_large", "ok"]
    assert detector.batches == [2]


def test_cut_jpeg_is_partial_with_its_faces() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels[:16, :16] = 20
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    cut = buffer.getvalue()[:-2000]
    settings = config(images={"cut_jpegs": True})
    results = analyzer(settings).analyze([picture(1), cut, buffer.getvalue()])
    assert [(r.status, r.n_faces) for r in results] == [("ok", 1), ("partial", 2), ("ok", 2)]
    assert (results[1].error, results[1].width) == (CUT_SHORT, 64)
    assert [r.status for r in analyzer().analyze([cut])] == ["corrupt"]
    failing = analyzer(settings, detector=BrightSquares(fails_on=64))
    assert [r.status for r in failing.analyze([cut])] == ["model_error"]


def test_one_image_instead_of_a_list_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="takes a list of encoded images"):
        analyzer().analyze(picture(1))  # type: ignore[arg-type]
    results = analyzer().analyze(iter([picture(1), None]))
    assert [r.status for r in results] == ["ok", "missing"]


class OnItsSide(BrightSquares):
    """Finds one face whose image must be turned by 90 degrees."""

    def _one(self, image: np.ndarray) -> Detections:
        assert image.shape[:2] == (40, 64)
        points = np.array([[20, 30], [20, 20], [15, 25], [10, 30], [10, 20]], np.float32)
        boxes = np.array([[4, 12, 28, 36]], np.float32)
        return Detections(boxes, np.array([0.9], np.float32), points[None], rotation=90)


def test_turned_faces_are_cropped_upright_and_keep_their_own_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    seen: list[np.ndarray] = []

    class Recorder(ByBrightness):
        def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
            seen.append(crops)
            return super().predict(crops)

    (result,) = analyzer(detector=OnItsSide(), predictor=Recorder()).analyze([buffer.getvalue()])
    (face,) = result.faces
    assert (face.bbox.x_min, face.bbox.y_min, face.bbox.x_max, face.bbox.y_max) == (4, 12, 28, 36)
    assert (result.width, result.height) == (64, 40)
    turned = np.ascontiguousarray(np.rot90(pixels, -1))
    np.testing.assert_array_equal(seen[0][0], crop_face(turned, [4, 4, 28, 28], SIZE, MARGIN))
    assert abs(face.quality.roll) == pytest.approx(90, abs=15)


def test_failing_network_costs_only_that_image() -> None:
    detector = BrightSquares(fails_on=77)
    results = analyzer(detector=detector).analyze([picture(1), picture(2, width=77), None, picture(3)])
    assert [r.status for r in results] == ["ok", "model_error", "missing", "ok"]
    assert [r.n_faces for r in results] == [1, 0, 0, 3]
    assert detector.batches == [3, 1, 1, 1]
    failed = results[1]
    assert failed.error is not None
    assert "RuntimeError" in failed.error
    assert "secret" not in failed.error
    assert (failed.width, failed.height) == (77, 40)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["age", "gender", "emotion", "embedding"])
def test_non_finite_output_is_a_model_error(name: str, value: float) -> None:
    predictor = ByBrightness(embedding=True, first={name: value})
    results = analyzer(predictor=predictor).analyze([picture(1), picture(0)])
    assert [r.status for r in results] == ["model_error", "no_face"]


def _labels(face: Face) -> list[str | None]:
    assert face.gender is not None
    assert face.ethnicity is not None
    assert face.emotion is not None
    return [face.gender.label, face.ethnicity.label, face.emotion.label]


def test_abstains_below_min_confidence() -> None:
    contents = [picture(1, shade=250), picture(1, shade=150)]
    sure, unsure = (r.faces[0] for r in analyzer(config(attributes={"min_confidence": 0.7})).analyze(contents))
    plain = analyzer().analyze(contents)[1].faces[0]
    assert None not in _labels(sure)
    assert _labels(unsure) == [None] * 3
    assert unsure.gender is not None
    assert plain.gender is not None
    assert unsure.gender.probs == plain.gender.probs
    assert unsure.gender.confidence == plain.gender.confidence
    assert repr(unsure.age) == repr(plain.age)


@pytest.mark.parametrize("attribute", CLASSES)
def test_attribute_has_its_own_min_confidence(attribute: str) -> None:
    limits = dict.fromkeys(CLASSES, 0.0) | {attribute: 0.7}
    (result,) = analyzer(config(attributes={"min_confidence": limits})).analyze([picture(1, shade=150)])
    labels = dict(zip(CLASSES, _labels(result.faces[0]), strict=True))
    assert [name for name, label in labels.items() if label is None] == [attribute]
    prediction = getattr(result.faces[0], attribute)
    assert prediction.confidence == max(prediction.probs.values())
    assert prediction.confidence < 0.7


def test_abstains_below_min_face_px() -> None:
    settings = config(attributes={"min_face_px": 24, "min_confidence": 0})
    large, small = analyzer(settings).analyze([picture(2)])[0].faces
    plain = analyzer().analyze([picture(2)])[0].faces[1]
    assert None not in _labels(large)
    assert _labels(small) == [None] * 3
    assert large.age is not None
    assert small.age is not None
    assert plain.age is not None
    assert plain.gender is not None
    assert small.gender is not None
    assert large.age.age is not None
    assert (small.age.age, small.age.group) == (None, None)
    assert (small.age.low, small.age.high) == (plain.age.low, plain.age.high)
    assert small.gender.probs == plain.gender.probs


@pytest.mark.parametrize("predict", [[], ["age"], ["gender", "emotion"], ["ethnicity"]])
def test_only_requested_attributes_are_returned(predict: list[str]) -> None:
    (result,) = analyzer(config(attributes={"predict": predict})).analyze([picture(1)])
    given = [name for name in ("age", *CLASSES) if getattr(result.faces[0], name) is not None]
    assert given == [name for name in ("age", *CLASSES) if name in predict]


def test_attribute_missing_in_the_model_is_none() -> None:
    (result,) = analyzer(predictor=ByBrightness(names=("ethnicity", "emotion"))).analyze([picture(1)])
    assert result.faces[0].gender is None
    assert result.faces[0].emotion is not None


def test_model_without_requested_attributes_is_an_error() -> None:
    predictor = ByBrightness()
    predictor.record = RECORD.model_copy(update={"classes": {"emotion": list(CLASSES["emotion"])}})
    with pytest.raises(ConfigError, match="predicts only emotion; ask for one of these"):
        analyzer(config(attributes={"predict": ["gender"]}), predictor=predictor)
    assert analyzer(config(attributes={"predict": ["gender", "emotion"]}), predictor=predictor)


def test_grayscale_model_and_detector_see_grayscale() -> None:
    seen: list[np.ndarray] = []

    class RecordingDetector(BrightSquares):
        def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
            seen.extend(images)
            return super().detect(images)

    class GrayscalePredictor(ByBrightness):
        record = RECORD.model_copy(update={"grayscale": True})

        def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
            seen.extend(crops)
            return super().predict(crops)

    pixels = np.full((40, 64, 3), (250, 80, 0), dtype=np.uint8)
    pixels[0, 0] = 20
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (result,) = analyzer(detector=RecordingDetector(), predictor=GrayscalePredictor()).analyze([buffer.getvalue()])
    assert result.n_faces == 2
    assert len(seen) == 3
    for image in seen:
        assert (image == image[..., :1]).all()
        assert image.max() == pytest.approx(0.299 * 250 + 0.587 * 80, abs=1)


def test_output_crop_is_the_network_input() -> None:
    content = picture(2, shade=90)
    (result,) = analyzer(config(output={"crops": True})).analyze([content])
    image = decode_image(content, Config().images)
    for face in result.faces:
        assert face.crop is not None
        assert face.crop.startswith(b"\xff\xd8\xff")
        box = (face.bbox.x_min, face.bbox.y_min, face.bbox.x_max, face.bbox.y_max)
        expected = crop_face(image, box, SIZE, MARGIN).astype(int)
        assert np.abs(np.asarray(Image.open(io.BytesIO(face.crop))).astype(int) - expected).mean() < 4


def test_embeddings_only_on_request_and_if_available() -> None:
    wants = config(output={"embeddings": True})
    (result,) = analyzer(wants, predictor=ByBrightness(embedding=True)).analyze([picture(2)])
    for face in result.faces:
        assert face.embedding is not None
        assert face.embedding.dtype == np.float32
        assert np.linalg.norm(face.embedding) == pytest.approx(1)
    (result,) = analyzer(predictor=ByBrightness(embedding=True)).analyze([picture(1)])
    assert result.faces[0].embedding is None
    with pytest.raises(ConfigError, match=r"output\.embeddings"):
        analyzer(wants)


def test_engine_error_is_raised_not_a_model_error() -> None:
    class FailingDevice(BrightSquares):
        def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:  # noqa: ARG002
            msg = "cuda:0 failed"
            raise EngineError(msg)

    with pytest.raises(EngineError, match="cuda:0 failed"):
        analyzer(detector=FailingDevice()).analyze([picture(1), picture(2)])


def test_ids_identify_settings_and_weights() -> None:
    made = analyzer(config(detector={"min_face_size": 30}))
    assert made.config_id == config(detector={"min_face_size": 30}).config_id() != Config().config_id()
    assert made.model_version == f"{detector_version(prefilter=True)}+small-v1"


def test_bad_config_or_weights_fail_at_construction(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        FaceAnalyzer.from_config(tmp_path / "absent.toml")
    with pytest.raises(WeightsError, match="missing"):
        FaceAnalyzer.from_config(config(attributes={"weights": str(tmp_path)}))
    with pytest.raises(WeightsError, match="missing"):
        model_version(config(attributes={"weights": str(tmp_path)}))


def test_importing_the_package_is_lightweight() -> None:
    code = (
        "import sys, faceattr_udf;"
        "loaded = lambda *names: print([name for name in names if name in sys.modules]);"
        "loaded('numpy', 'pydantic', 'pyarrow');"
        "print(faceattr_udf.Config().config_id()); loaded('openvino', 'pyspark', 'torch', 'cv2', 'PIL');"
        "faceattr_udf.FaceAnalyzer; loaded('openvino', 'pyspark', 'torch')"
    )
    command = [sys.executable, "-c", code]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
    assert lines == ["[]", Config().config_id(), "[]", "[]"]


def test_version_is_read_from_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faceattr_udf.__version__ == metadata.version("faceattr_udf")

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    # As on Spark workers, which import the package from a zip without metadata.
    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.delattr(faceattr_udf, "__version__")
    assert faceattr_udf.__version__ == "0+unknown"


def test_public_names_are_importable() -> None:
    for name in faceattr_udf.__all__:
        assert getattr(faceattr_udf, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = faceattr_udf.nothing_like_this  # type: ignore[attr-defined]


# Real photographs and the real cascade.


@pytest.fixture(scope="module")
def cascade() -> Detector:
    return Detector(Config().detector)


def _photos(names: Sequence[str]) -> list[bytes]:
    return [(PHOTOS / name).read_bytes() for name in names]


@needs_photos
def test_detected_faces_match_the_annotations(cascade: Detector) -> None:
    marked = [photo for photo in json.loads((PHOTOS / "photos.json").read_text()) if photo["faces"]]
    marked = [photo for photo in marked if all(face["label"] == "face" for face in photo["faces"])][:6]
    results = analyzer(detector=cascade).analyze(_photos([photo["file"] for photo in marked]))
    found = total = 0
    for photo, result in zip(marked, results, strict=True):
        assert result.status == "ok"
        assert (result.width, result.height) == (photo["width"], photo["height"])
        areas = [(f.bbox.x_max - f.bbox.x_min) * (f.bbox.y_max - f.bbox.y_min) for f in result.faces]
        assert areas == sorted(areas, reverse=True)
        assert [face.face_index for face in result.faces] == list(range(result.n_faces))
        large = [
            face["box"] for face in photo["faces"] if min(np.diff(np.reshape(face["box"], (2, 2)), axis=0)[0]) > 24
        ]
        total += len(large)
        boxes = np.array([dataclasses.astuple(face.bbox) for face in result.faces])
        found += int((box_iou(np.array(large).reshape(-1, 4), boxes).max(axis=1) > 0.4).sum())
    assert total >= 10
    assert found >= 0.8 * total


@needs_photos
def test_exif_rotation_equals_manual_rotation(cascade: Detector) -> None:
    upright = Image.open(PHOTOS / "2008_001322.jpg")
    contents = []
    for orientation, stored in ((1, upright), (6, upright.transpose(Image.Transpose.ROTATE_90))):
        exif, buffer = Image.Exif(), io.BytesIO()
        exif[0x0112] = orientation
        stored.save(buffer, "PNG", exif=exif)
        contents.append(buffer.getvalue())
    first, second = analyzer(detector=cascade).analyze(contents)
    assert first.n_faces > 0
    assert equal(first, second)


@needs_photos
def test_roll_follows_the_rotation_of_the_photograph(cascade: Detector) -> None:
    upright = Image.open(PHOTOS / "2008_001322.jpg").convert("RGB")
    contents = []
    for degrees in (0, -15):  # Pillow rotates counterclockwise
        buffer = io.BytesIO()
        upright.rotate(degrees, resample=Image.Resampling.BICUBIC).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    level, leaning = analyzer(detector=cascade).analyze(contents)
    rolls = [np.median([face.quality.roll for face in result.faces]) for result in (level, leaning)]
    assert rolls[1] - rolls[0] == pytest.approx(15, abs=8)


@needs_photos
def test_real_networks_do_not_depend_on_the_batch() -> None:
    real = FaceAnalyzer.from_config(None)
    contents: list[bytes | None] = [*_photos(["2008_001322.jpg", "2009_004587.jpg"]), None]
    results = real.analyze(contents)
    assert [r.status for r in results] == [ImageStatus.OK, ImageStatus.OK, ImageStatus.MISSING]
    assert real.model_version == model_version(Config())
    for result, content in zip(results, contents, strict=True):
        (alone,) = real.analyze([content])
        assert alone.n_faces == result.n_faces
        for face, other in zip(result.faces, alone.faces, strict=True):
            assert face.bbox == other.bbox
            assert face.age is not None
            assert other.age is not None
            assert face.age.age == pytest.approx(other.age.age, abs=0.01)
            assert 0 < face.age.age < 100  # type: ignore[operator]
            for name, labels in CLASSES.items():
                one, two = getattr(face, name), getattr(other, name)
                assert tuple(one.probs) == labels
                assert sum(one.probs.values()) == pytest.approx(1, abs=1e-4)
                assert one.probs == pytest.approx(two.probs, abs=1e-3)
