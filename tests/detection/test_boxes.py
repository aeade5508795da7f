import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchvision.ops import batched_nms, box_iou

from faceattr_udf.detection import boxes as box_ops


def _boxes(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    corners = random.uniform(-20, 80, (n, 2))
    return np.concatenate([corners, corners + random.uniform(1, 50, (n, 2))], axis=1).astype(np.float32)


def test_empty_input_gives_empty_output() -> None:
    empty = np.zeros((0, 4), np.float32)
    groups = np.zeros(0, np.int64)
    assert box_ops.batched_nms(empty, empty[:, 0], groups, 0.5).shape == (0,)
    assert box_ops.batched_nms_ios(empty, empty[:, 0], groups, 0.5).shape == (0,)
    assert box_ops.to_square(empty).shape == (0, 4)
    assert box_ops.apply_box_deltas(empty, empty, inclusive=True).shape == (0, 4)
    assert box_ops.box_area(empty).shape == (0,)


@given(n=st.integers(0, 30), m=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_box_iou_matches_torchvision(n: int, m: int, seed: int) -> None:
    boxes, others = _boxes(n, seed), _boxes(m, seed + 1)
    theirs = box_iou(torch.from_numpy(boxes), torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(box_ops.box_iou(boxes, others), theirs, atol=1e-5)


def test_boxes_without_area_have_zero_iou() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 5, 5], [8, 8, 2, 2]], np.float32)
    assert box_ops.box_iou(boxes, boxes).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


@given(n=st.integers(1, 60), seed=st.integers(0, 10_000), threshold=st.sampled_from([0.3, 0.5, 0.7]))
def test_batched_nms_matches_torchvision(n: int, seed: int, threshold: float) -> None:
    boxes = _boxes(n, seed)
    random = np.random.default_rng(seed + 1)
    scores = random.permutation(np.linspace(0.1, 0.9, n)).astype(np.float32)
    groups = random.integers(0, 3, n)
    ours = box_ops.batched_nms(boxes, scores, groups, threshold)
    theirs = batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(groups), threshold)
    assert ours.tolist() == theirs.tolist()


def _greedy_nms_ios(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + 1
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + 1
            overlap = max(width, 0) * max(height, 0)
            areas = [float((b[2] - b[0] + 1) * (b[3] - b[1] + 1)) for b in (boxes[i], boxes[j])]
            if groups[i] == groups[j] and overlap / min(areas) > threshold:
                break
        else:
            kept.append(int(i))
    return kept


@given(n=st.integers(1, 40), seed=st.integers(0, 10_000))
def test_batched_nms_ios_matches_greedy_loop(n: int, seed: int) -> None:
    boxes = _boxes(n, seed)
    random = np.random.default_rng(seed)
    scores = random.permutation(np.linspace(0.1, 0.9, n)).astype(np.float32)
    groups = random.integers(0, 2, n)
    ours = box_ops.batched_nms_ios(boxes, scores, groups, 0.7).tolist()
    assert ours == _greedy_nms_ios(boxes.astype(np.float64), scores, groups, 0.7)


def _dense_nms_ios(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float) -> np.ndarray:
    """The implementation before blocks: all boxes are compared with all others at once."""
    order = np.argsort(-scores, kind="stable")
    ranked = boxes[order].astype(np.float64)
    group = groups[order]
    sizes = np.maximum(ranked[:, 2:] - ranked[:, :2] + 1.0, 0.0)
    area = sizes[:, 0] * sizes[:, 1]
    corner = np.maximum(ranked[:, None, :2], ranked[None, :, :2])
    opposite = np.minimum(ranked[:, None, 2:], ranked[None, :, 2:])
    intersection = np.maximum(opposite - corner + 1.0, 0.0).prod(axis=2)
    smaller = np.maximum(np.minimum(area[:, None], area[None, :]), np.finfo(np.float64).tiny)
    conflicts = np.tril((intersection / smaller > threshold) & (group[:, None] == group[None, :]), k=-1)
    keep = np.ones(len(order), dtype=bool)
    while True:
        updated = ~(conflicts & keep[None, :]).any(axis=1)
        if np.array_equal(updated, keep):
            return order[keep]
        keep = updated


@pytest.mark.parametrize("n", [1, 255, 256, 257, 512, 1300])
@pytest.mark.parametrize("spread", [1, 20])
def test_batched_nms_ios_in_blocks_equals_the_dense_computation(n: int, spread: int) -> None:
    random = np.random.default_rng(n)
    boxes = _boxes(n, n) + np.float32(spread) * np.tile(random.uniform(0, 50, (n, 2)), 2).astype(np.float32)
    scores = random.choice(np.linspace(0.1, 0.9, 50), n).astype(np.float32)  # with ties
    groups = random.integers(0, 3, n)
    ours = box_ops.batched_nms_ios(boxes, scores, groups, 0.7)
    assert ours.tolist() == _dense_nms_ios(boxes, scores, groups, 0.7).tolist()
    assert ours.dtype == np.int64


def test_batched_nms_ios_needs_memory_that_is_linear_in_the_boxes() -> None:
    n = 5000  # a dense table of float64 alone would take 200 MB
    corners = np.random.default_rng(0).uniform(0, 5000, (n, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 40], axis=1)
    tracemalloc.start()
    box_ops.batched_nms_ios(boxes, np.linspace(0.9, 0.1, n, dtype=np.float32), np.zeros(n, np.int64), 0.7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_batched_nms_ios_ignores_boxes_of_other_groups() -> None:
    boxes = np.array([[0, 0, 100, 100], [40, 40, 60, 60], [40, 40, 60, 60]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert box_ops.batched_nms_ios(boxes, scores, np.array([0, 0, 1]), 0.7).tolist() == [0, 2]


@given(hnp.arrays(np.float32, (5, 4), elements=st.floats(-100, 100, width=32)))
def test_to_square_keeps_center_and_longer_side(raw: np.ndarray) -> None:
    boxes = np.concatenate([raw[:, :2], raw[:, :2] + np.abs(raw[:, 2:]) + 1], axis=1)
    squares = box_ops.to_square(boxes)
    sides = squares[:, 2:] - squares[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=1e-3)
    np.testing.assert_allclose(sides.max(axis=1), (boxes[:, 2:] - boxes[:, :2]).max(axis=1), atol=1e-3)
    np.testing.assert_allclose(squares[:, :2] + squares[:, 2:], boxes[:, :2] + boxes[:, 2:], atol=1e-3)


def test_box_deltas_are_fractions_of_the_box_size() -> None:
    box = np.array([[10, 20, 30, 60]], np.float32)
    deltas = np.array([[0.1, -0.1, 0.0, 0.5]], np.float32)
    assert box_ops.apply_box_deltas(box, deltas, inclusive=False).tolist() == [[12, 16, 30, 80]]
    assert box_ops.apply_box_deltas(box, deltas, inclusive=True)[0, 3] == 80.5
