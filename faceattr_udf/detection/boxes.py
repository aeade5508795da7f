"""Box arithmetic on arrays: regression, squaring, IoU and non-maximum suppression (NMS).

Boxes are float32 (n, 4): x_min, y_min, x_max, y_max in pixels, x to the right, y downwards.
"""

from itertools import pairwise
from typing import Final

import cv2
import numpy as np

from faceattr_udf.arrays import BoolArray, Float32Array, Float64Array, Int64Array

_NMS_GROUPS: Final = 200
"""Boxes of how many groups go through NMS together, about."""

_NMS_BLOCK: Final = 256
"""Boxes that are compared at once with as many others: tables of a few megabytes."""


def apply_box_deltas(boxes: Float32Array, deltas: Float32Array, inclusive: bool) -> Float32Array:
    """Moves box edges by regression deltas relative to the box's size (Zhang et al. 2016, section II.B).

    Args:
        boxes: float32 (n, 4).
        deltas: float32 (n, 4), fractions of width, height, width, height.
        inclusive: Whether a box from 0 to 9 is 10 px wide (as R-Net and O-Net were trained) or 9 px (P-Net).
    """
    sizes = boxes[:, 2:] - boxes[:, :2] + np.float32(inclusive)
    return boxes + deltas * np.tile(sizes, (1, 2))


def to_square(boxes: Float32Array) -> Float32Array:
    """Extends the shorter side of every box to the longer one, around the box's center."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    sides = sizes.max(axis=1, keepdims=True)
    corners = boxes[:, :2] + sizes * np.float32(0.5) - sides * np.float32(0.5)
    return np.concatenate([corners, corners + sides], axis=1)


def box_area(boxes: Float32Array) -> Float32Array:
    """Returns areas in square pixels, float32 (n,); 0 for an inverted box."""
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sizes[:, 0] * sizes[:, 1], dtype=np.float32)


def box_iou(boxes: Float32Array, others: Float32Array) -> Float32Array:
    """Returns the intersection over union (IoU) of every box with every other box.

    Args:
        boxes: float32 (n, 4).
        others: float32 (m, 4).

    Returns:
        float32 (n, m).
    """
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.maximum(opposite - corner, 0.0).prod(axis=2)
    union = box_area(boxes)[:, None] + box_area(others)[None, :] - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9), dtype=np.float32)


def batched_nms(boxes: Float32Array, scores: Float32Array, groups: Int64Array, threshold: float) -> Int64Array:
    """Runs greedy NMS by IoU, independently per group.

    Args:
        boxes: float32 (n, 4).
        scores: float32 (n,).
        groups: int64 (n,), e.g. the image a box belongs to; only boxes of the same group are compared.
        threshold: A box whose IoU with a better one exceeds this is removed.

    Returns:
        Indices of the kept boxes by decreasing score, int64 (k,).
    """
    if len(boxes) == 0:
        return np.zeros(0, dtype=np.int64)
    # Moving each group far from the others turns per-group NMS into one call. Within a group all boxes move by the
    # same distance, and in float64 the rounding error stays far below a pixel.
    extent = float(boxes.max()) - float(boxes.min()) + 1.0
    shifted = boxes.astype(np.float64)
    shifted[:, 2:] -= shifted[:, :2]
    shifted[:, 0] += groups * extent
    # OpenCV accepts arrays although its stub says otherwise.
    kept = cv2.dnn.NMSBoxes(shifted, scores, 0.0, threshold)  # type: ignore[arg-type]
    return np.asarray(kept, dtype=np.int64).reshape(-1)


def sorted_nms(boxes: Float32Array, scores: Float32Array, groups: Int64Array, threshold: float) -> Int64Array:
    """Runs `batched_nms` on boxes that are sorted by group, a few groups at a time.

    NMS compares every box with all better ones, also those of other groups, so one call for hundreds of groups takes
    long, and so do hundreds of calls.

    Returns:
        Indices of the kept boxes by group, and by decreasing score within a group, int64 (k,).
    """
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    kept = []
    first = 0
    for _, end in pairwise([*starts.tolist(), len(groups)]):
        if end - first >= _NMS_GROUPS or end == len(groups):
            part = slice(first, end)
            kept.append(first + batched_nms(boxes[part], scores[part], groups[part], threshold))
            first = end
    found = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
    return found[np.argsort(groups[found], kind="stable")]


def batched_nms_ios(boxes: Float32Array, scores: Float32Array, groups: Int64Array, threshold: float) -> Int64Array:
    """Runs greedy NMS by intersection over the smaller area (IoS), which also removes a small box inside a large one.

    Memory is linear in the number of boxes: only blocks of them are compared at once.

    Args:
        boxes: float32 (n, 4).
        scores: float32 (n,).
        groups: int64 (n,); only boxes of the same group are compared.
        threshold: A box whose IoS with a better one exceeds this is removed.

    Returns:
        Indices of the kept boxes by decreasing score, int64 (k,).
    """
    rest: Int64Array = np.argsort(-scores, kind="stable")
    corners = boxes.astype(np.float64)
    kept = [rest[:0]]
    while len(rest):
        block, rest = rest[:_NMS_BLOCK], rest[_NMS_BLOCK:]
        block = block[_greedy(_conflicts(corners[block], groups[block], corners[block], groups[block], threshold))]
        kept.append(block)
        parts = [rest[start : start + _NMS_BLOCK] for start in range(0, len(rest), _NMS_BLOCK)]
        for number, part in enumerate(parts):
            covered = _conflicts(corners[part], groups[part], corners[block], groups[block], threshold).any(axis=1)
            parts[number] = part[~covered]
        rest = np.concatenate(parts) if parts else rest
    return np.concatenate(kept)


def _conflicts(
    boxes: Float64Array, groups: Int64Array, others: Float64Array, other_groups: Int64Array, threshold: float
) -> BoolArray:
    """Returns which boxes cover each other: IoS above the threshold in the same group, bool (n, m)."""
    areas, other_areas = (np.maximum(b[:, 2:] - b[:, :2] + 1.0, 0.0).prod(axis=1) for b in (boxes, others))
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.maximum(opposite - corner + 1.0, 0.0).prod(axis=2)
    smaller = np.maximum(np.minimum(areas[:, None], other_areas[None, :]), np.finfo(np.float64).tiny)
    conflicts: BoolArray = (intersection / smaller > threshold) & (groups[:, None] == other_groups[None, :])
    return conflicts


def _greedy(conflicts: BoolArray) -> BoolArray:
    """Returns which of ranked boxes greedy NMS keeps, bool (n,), from the conflicts among them, bool (n, n)."""
    conflicts = np.tril(conflicts, k=-1)  # row i: the better boxes j < i that it conflicts with
    keep: BoolArray = np.ones(len(conflicts), dtype=np.bool_)
    # A box is removed if a better *kept* box covers it. Starting from "all kept", each iteration settles at least one
    # more rank, so the loop ends after at most the longest chain of conflicts and gives the greedy result.
    while True:
        updated = np.logical_not((conflicts & keep[None, :]).any(axis=1))
        if np.array_equal(updated, keep):
            return keep
        keep = updated
