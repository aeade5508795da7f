"""Compares the cascade with facenet-pytorch's on real photographs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared_data import needs_shared, shared_photos

from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import mtcnn
from faceattr_udf.detection.boxes import box_iou
from faceattr_udf.detection.matching import count_matches
from faceattr_udf.detection.mtcnn import Detections, Detector, detector_version


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(DetectorConfig(), threads=2)


@pytest.fixture(scope="module")
def crowd(demo_photos: Path) -> np.ndarray:
    """Five people at two sizes, so that limits and minimum sizes select some of the faces."""
    with Image.open(demo_photos / "group" / "five_friends.jpg") as image:
        whole = image.convert("RGB")
    small = np.asarray(whole.resize((whole.width // 4, whole.height // 4)))
    beside = np.pad(small, ((0, 0), (0, whole.width - small.shape[1]), (0, 0)))
    return np.concatenate([np.asarray(whole), beside])


def _assert_same(a: Detections, b: Detections) -> None:
    np.testing.assert_allclose(a.boxes, b.boxes, atol=0.01)
    np.testing.assert_allclose(a.confidences, b.confidences, atol=1e-4)
    np.testing.assert_allclose(a.landmarks, b.landmarks, atol=0.01)


def test_no_images_give_no_results(detector: Detector) -> None:
    assert detector.detect([]) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 900, 3), (64, 64, 3)])
def test_image_without_a_face_gives_empty_arrays(detector: Detector, shape: tuple[int, int, int]) -> None:
    (found,) = detector.detect([np.full(shape, 127, np.uint8)])
    assert found.boxes.shape == (0, 4)
    assert found.confidences.shape == (0,)
    assert found.landmarks.shape == (0, 5, 2)


def test_version_names_the_weights() -> None:
    assert detector_version().startswith("mtcnn-")


def _oracle(photos: Sequence[Path]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields pixels, and the boxes and landmarks that facenet-pytorch finds."""
    facenet_pytorch = pytest.importorskip("facenet_pytorch", reason="needs facenet-pytorch")
    torch.set_num_threads(2)
    oracle = facenet_pytorch.MTCNN(keep_all=True, min_face_size=20)
    for path in photos:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        boxes, _, landmarks = oracle.detect(pixels, landmarks=True)
        if boxes is None:
            boxes, landmarks = np.zeros((0, 4)), np.zeros((0, 5, 2))
        yield pixels, np.asarray(boxes, dtype=np.float64), np.asarray(landmarks, dtype=np.float64)


def test_demo_faces_match_facenet_pytorch(demo_photos: Path) -> None:
    (metrics,) = _against_oracle(sorted(demo_photos.rglob("*.*")), prefilters=[True])
    assert abs(metrics.pop("shift")) < 0.3
    assert metrics == {"total": 8, "matched": 8, "close": 8, "extra": 0}


@pytest.mark.slow
@needs_shared
def test_group_photo_faces_match_facenet_pytorch() -> None:
    # Every third photograph, because facenet-pytorch takes a second for each.
    for metrics in _against_oracle(shared_photos()[::3], prefilters=[False, True]):
        assert metrics["total"] > 120
        assert metrics["matched"] >= 0.99 * metrics["total"]
        assert metrics["close"] >= 0.99 * metrics["total"]
        assert metrics["extra"] == 0
        assert abs(metrics["shift"]) < 0.3


def _against_oracle(photos: Sequence[Path], prefilters: Sequence[bool]) -> list[dict[str, float]]:
    """Returns counts of faces for each prefilter setting, and the mean landmark error.

    total: faces of facenet-pytorch; matched: found with the same box; close: also with the same landmarks; extra: found
    only here; shift: mean signed landmark error in pixels, positive to the right and down.
    """
    oracle = list(_oracle(photos))
    return [_agreement(oracle, Detector(DetectorConfig(prefilter=prefilter), threads=2)) for prefilter in prefilters]


def _agreement(oracle: list[tuple[np.ndarray, np.ndarray, np.ndarray]], detector: Detector) -> dict[str, float]:
    total = matched = close = extra = 0
    shifts = []
    for pixels, boxes, landmarks in oracle:
        (ours,) = detector.detect([pixels])
        total += len(boxes)
        extra += max(len(ours) - len(boxes), 0)
        if len(boxes) == 0 or len(ours) == 0:
            continue
        iou = box_iou(boxes, ours.boxes)
        best = iou.argmax(axis=1)
        hit = iou.max(axis=1) >= 0.9
        matched += int(hit.sum())
        extra += len(set(range(len(ours))) - set(best[hit].tolist()))
        error = np.abs(landmarks - ours.landmarks[best]).max(axis=(1, 2))
        shifts.append((ours.landmarks[best] - landmarks)[hit])
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        close += int((hit & (error <= np.maximum(2.0, 0.03 * sides))).sum())
    shift = float(np.concatenate(shifts).mean())
    return {"total": total, "matched": matched, "close": close, "extra": extra, "shift": shift}


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("factor", [2, 3])
def test_prefilter_recall_on_enlarged_photographs(factor: int) -> None:
    # Photographs that are not in its training data, enlarged so that their levels are prefiltered.
    unfiltered, prefiltered = (Detector(DetectorConfig(prefilter=prefilter), threads=2) for prefilter in (False, True))
    ours, theirs = [], []
    for path in [path for path in shared_photos() if not path.name.startswith("group-")][1::2]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((factor * image.width, factor * image.height)))
        (expected,), (found,) = unfiltered.detect([pixels]), prefiltered.detect([pixels])
        ours.append(found.boxes)
        theirs.append(expected.boxes)
    pairs, total = count_matches(ours, theirs)
    assert total > 200
    assert pairs >= 0.985 * total


def test_batch_of_mixed_sizes_matches_single_images(detector: Detector, crowd: np.ndarray) -> None:
    images = [crowd, np.zeros((1, 1, 3), np.uint8), crowd[:150, :200].copy(), np.ascontiguousarray(crowd[:, ::-1])]
    for alone, together in zip([detector.detect([i])[0] for i in images], detector.detect(images), strict=True):
        assert len(alone) == len(together)
        _assert_same(alone, together)


@pytest.mark.parametrize("sides", [[], [1], [900, 900], [1200], [50, 1200, 50, 50], [600] * 5])
def test_batches_keep_order_and_include_every_image(sides: list[int]) -> None:
    images = [np.zeros((side, side, 3), np.uint8) for side in sides]
    batches = list(mtcnn._batches(images))
    assert [image.shape[0] for batch in batches for image in batch] == sides
    assert all(batch for batch in batches)
    assert all(len(batch) == 1 or sum(i.shape[0] ** 2 for i in batch) <= 1_000_000 for batch in batches)


def test_faces_are_sorted_largest_first_and_limited(detector: Detector, crowd: np.ndarray) -> None:
    (everyone,) = detector.detect([crowd])
    sizes = (everyone.boxes[:, 2:] - everyone.boxes[:, :2]).prod(axis=1)
    assert (np.diff(sizes) <= 0).all()
    (three,) = Detector(DetectorConfig(max_faces=3)).detect([crowd])
    np.testing.assert_allclose(three.boxes, everyone.boxes[:3], atol=0.01)
    (largest,) = Detector(DetectorConfig(largest_only=True)).detect([crowd])
    np.testing.assert_allclose(largest.boxes, everyone.boxes[:1], atol=0.01)


def test_larger_min_face_size_finds_fewer_faces(detector: Detector, crowd: np.ndarray) -> None:
    (everyone,) = detector.detect([crowd])
    (large,) = Detector(DetectorConfig(min_face_size=80)).detect([crowd])
    assert 0 < len(large) < len(everyone)


def test_stricter_thresholds_find_fewer_faces(detector: Detector, crowd: np.ndarray) -> None:
    (strict,) = Detector(DetectorConfig(thresholds=(0.8, 0.9, 0.999))).detect([crowd])
    assert len(strict) < len(detector.detect([crowd])[0])
    assert (strict.confidences >= 0.999).all()


def test_min_confidence_leaves_out_less_confident_faces(detector: Detector, crowd: np.ndarray) -> None:
    (everyone,) = detector.detect([crowd])
    bound = float(np.median(everyone.confidences))
    (confident,) = Detector(DetectorConfig(min_confidence=bound)).detect([crowd])
    kept = everyone.confidences >= bound
    assert 0 < kept.sum() < len(everyone)
    np.testing.assert_array_equal(confident.boxes, everyone.boxes[kept])


def test_zero_border_improves_boxes_at_the_frame(crowd: np.ndarray) -> None:
    (whole,) = Detector(DetectorConfig()).detect([crowd])
    x_min, _, x_max, _ = whole.boxes[0]
    cropped = np.ascontiguousarray(crowd[:, int(x_min + 0.25 * (x_max - x_min)) :])
    expected = whole.boxes[0] - np.array([crowd.shape[1] - cropped.shape[1], 0] * 2)
    ious = {}
    for border in ("clip", "zero"):
        (found,) = Detector(DetectorConfig(border=border)).detect([cropped])
        ious[border] = box_iou(expected[None], found.boxes).max()
    assert ious["zero"] > ious["clip"]
