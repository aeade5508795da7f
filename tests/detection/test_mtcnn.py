"""The cascade against facenet-pytorch's, which is its oracle, on real photographs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared_data import needs_shared, photographs

from faceattr_udf.benchmarks.baselines import agreement_of_all
from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import mtcnn
from faceattr_udf.detection.mtcnn import Detections, Detector, detector_version


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(DetectorConfig(), threads=2)


@pytest.fixture(scope="module")
def crowd(demo_photos: Path) -> np.ndarray:
    """Five faces in the foreground, at two sizes, so that limits and minima have something to choose from."""
    with Image.open(demo_photos / "group" / "five_friends.jpg") as image:
        whole = image.convert("RGB")
    small = np.asarray(whole.resize((whole.width // 4, whole.height // 4)))
    beside = np.pad(small, ((0, 0), (0, whole.width - small.shape[1]), (0, 0)))
    return np.concatenate([np.asarray(whole), beside])


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    opposite = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.clip(opposite - corner, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return overlap / (areas[0][:, None] + areas[1][None] - overlap)


def _same(a: Detections, b: Detections) -> None:
    np.testing.assert_allclose(a.boxes, b.boxes, atol=0.01)
    np.testing.assert_allclose(a.confidences, b.confidences, atol=1e-4)
    np.testing.assert_allclose(a.landmarks, b.landmarks, atol=0.01)


def test_no_images_give_no_results(detector: Detector) -> None:
    assert detector.detect([]) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 900, 3), (64, 64, 3)])
def test_a_picture_without_a_face_gives_empty_arrays(detector: Detector, shape: tuple[int, int, int]) -> None:
    (found,) = detector.detect([np.full(shape, 127, np.uint8)])
    assert found.boxes.shape == (0, 4)
    assert found.confidences.shape == (0,)
    assert found.landmarks.shape == (0, 5, 2)


def test_the_version_names_the_weights() -> None:
    assert detector_version().startswith("mtcnn-")


def _oracle(photos: Sequence[Path]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pixels, boxes and landmarks that facenet-pytorch finds."""
    facenet_pytorch = pytest.importorskip("facenet_pytorch", reason="needs facenet-pytorch, the oracle")
    torch.set_num_threads(2)
    theirs = facenet_pytorch.MTCNN(keep_all=True, min_face_size=20)
    for path in photos:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        boxes, _, landmarks = theirs.detect(pixels, landmarks=True)
        if boxes is None:
            boxes, landmarks = np.zeros((0, 4)), np.zeros((0, 5, 2))
        yield pixels, np.asarray(boxes, dtype=np.float64), np.asarray(landmarks, dtype=np.float64)


def test_finds_the_faces_that_facenet_pytorch_finds_and_no_others(demo_photos: Path) -> None:
    (figures,) = _against_oracle(sorted(demo_photos.rglob("*.*")), screens=[True])
    assert abs(figures.pop("shift")) < 0.3
    assert figures == {"total": 8, "matched": 8, "close": 8, "extra": 0}


@pytest.mark.slow
@needs_shared
def test_finds_the_faces_that_facenet_pytorch_finds_in_photographs_of_groups() -> None:
    # A third of them: the oracle takes a second for each.
    for figures in _against_oracle(photographs()[::3], screens=[False, True]):
        assert figures["total"] > 120
        assert figures["matched"] >= 0.99 * figures["total"]
        assert figures["close"] >= 0.99 * figures["total"]
        assert figures["extra"] == 0
        assert abs(figures["shift"]) < 0.3


def _against_oracle(photos: Sequence[Path], screens: Sequence[bool]) -> list[dict[str, float]]:
    """Faces of the oracle, those found at the same place and with the same landmarks, and those it does not find.

    And `shift`, by how many pixels landmarks lie too far to the right and down, on average.
    """
    oracle = list(_oracle(photos))
    return [_agreement(oracle, Detector(DetectorConfig(screen=screen), threads=2)) for screen in screens]


def _agreement(oracle: list[tuple[np.ndarray, np.ndarray, np.ndarray]], detector: Detector) -> dict[str, float]:
    total = matched = close = extra = 0
    shifts = []
    for pixels, boxes, landmarks in oracle:
        (ours,) = detector.detect([pixels])
        total += len(boxes)
        extra += max(len(ours) - len(boxes), 0)
        if len(boxes) == 0 or len(ours) == 0:
            continue
        overlap = _iou(boxes, ours.boxes)
        best = overlap.argmax(axis=1)
        hit = overlap.max(axis=1) >= 0.9
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
def test_the_screen_misses_hardly_a_face_of_enlarged_photographs(factor: int) -> None:
    # Photographs that it did not learn from, made so large that their levels are screened.
    everywhere, screened = (Detector(DetectorConfig(screen=screen), threads=2) for screen in (False, True))
    ours, theirs = [], []
    for path in [path for path in photographs() if not path.name.startswith("group-")][1::2]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((factor * image.width, factor * image.height)))
        (expected,), (found,) = everywhere.detect([pixels]), screened.detect([pixels])
        ours.append(found.boxes)
        theirs.append(expected.boxes)
    pairs, total = agreement_of_all(ours, theirs)
    assert total > 200
    assert pairs >= 0.985 * total


def test_a_batch_of_mixed_sizes_gives_what_its_images_give_alone(detector: Detector, crowd: np.ndarray) -> None:
    images = [crowd, np.zeros((1, 1, 3), np.uint8), crowd[:150, :200].copy(), np.ascontiguousarray(crowd[:, ::-1])]
    for alone, together in zip([detector.detect([i])[0] for i in images], detector.detect(images), strict=True):
        assert len(alone) == len(together)
        _same(alone, together)


@pytest.mark.parametrize("sides", [[], [1], [900, 900], [1200], [50, 1200, 50, 50], [600] * 5])
def test_images_are_grouped_in_order_and_none_is_left_out(sides: list[int]) -> None:
    images = [np.zeros((side, side, 3), np.uint8) for side in sides]
    groups = list(mtcnn._groups(images))
    assert [image.shape[0] for group in groups for image in group] == sides
    assert all(group for group in groups)
    assert all(len(group) == 1 or sum(i.shape[0] ** 2 for i in group) <= 1_000_000 for group in groups)


def test_faces_come_largest_first_and_can_be_limited(detector: Detector, crowd: np.ndarray) -> None:
    (everyone,) = detector.detect([crowd])
    sizes = (everyone.boxes[:, 2:] - everyone.boxes[:, :2]).prod(axis=1)
    assert (np.diff(sizes) <= 0).all()
    (three,) = Detector(DetectorConfig(max_faces=3)).detect([crowd])
    np.testing.assert_allclose(three.boxes, everyone.boxes[:3], atol=0.01)
    (largest,) = Detector(DetectorConfig(largest_only=True)).detect([crowd])
    np.testing.assert_allclose(largest.boxes, everyone.boxes[:1], atol=0.01)


def test_a_larger_minimum_finds_only_larger_faces(detector: Detector, crowd: np.ndarray) -> None:
    (everyone,) = detector.detect([crowd])
    (large,) = Detector(DetectorConfig(min_face_size=80)).detect([crowd])
    assert 0 < len(large) < len(everyone)


def test_stricter_thresholds_find_fewer_faces(detector: Detector, crowd: np.ndarray) -> None:
    (strict,) = Detector(DetectorConfig(thresholds=(0.8, 0.9, 0.999))).detect([crowd])
    assert len(strict) < len(detector.detect([crowd])[0])
    assert (strict.confidences >= 0.999).all()


def test_black_borders_give_better_boxes_where_the_frame_cuts_a_face(crowd: np.ndarray) -> None:
    (whole,) = Detector(DetectorConfig()).detect([crowd])
    x_min, _, x_max, _ = whole.boxes[0]
    cut = np.ascontiguousarray(crowd[:, int(x_min + 0.25 * (x_max - x_min)) :])
    expected = whole.boxes[0] - np.array([crowd.shape[1] - cut.shape[1], 0] * 2)
    overlaps = {}
    for border in ("clip", "zero"):
        (found,) = Detector(DetectorConfig(border=border)).detect([cut])
        overlaps[border] = _iou(expected[None], found.boxes).max()
    assert overlaps["zero"] > overlaps["clip"]
