"""Box arithmetic on arrays: regression, squaring, suppression.

Boxes are float32 (n, 4): x_min, y_min, x_max, y_max in pixels, x to the right, y downwards.
"""

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def regress(boxes: FloatArray, offsets: FloatArray, inclusive: bool) -> FloatArray:
    """Moves box edges by offsets relative to the box's size (Zhang et al. 2016, section II.B).

    Args:
        boxes: float32 (n, 4).
        offsets: float32 (n, 4), shares of width, height, width, height.
        inclusive: Whether a box from 0 to 9 is 10 px wide (the R-Net and O-Net were trained so) or 9 px (P-Net).
    """
    sizes = boxes[:, 2:] - boxes[:, :2] + np.float32(inclusive)
    return boxes + offsets * np.tile(sizes, (1, 2))


def square(boxes: FloatArray) -> FloatArray:
    """Grows the shorter side of every box around its centre to the longer one."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    sides = sizes.max(axis=1, keepdims=True)
    corners = boxes[:, :2] + sizes * np.float32(0.5) - sides * np.float32(0.5)
    return np.concatenate([corners, corners + sides], axis=1)


def areas(boxes: FloatArray) -> FloatArray:
    """Areas in square pixels, (n,); an inverted box has none."""
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sizes[:, 0] * sizes[:, 1], dtype=np.float32)


def overlaps(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """Intersection over union of every box with every other.

    Args:
        boxes: float32 (n, 4).
        others: float32 (m, 4).

    Returns:
        float32 (n, m).
    """
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(opposite - corner, 0.0).prod(axis=2)
    union = areas(boxes)[:, None] + areas(others)[None, :] - shared
    return np.asarray(shared / np.maximum(union, 1e-9), dtype=np.float32)


def suppress(boxes: FloatArray, scores: FloatArray, groups: IntArray, threshold: float) -> IntArray:
    """Greedy non-maximum suppression by intersection over union, independently per group.

    Args:
        boxes: float32 (n, 4).
        scores: float32 (n,).
        groups: int64 (n,), e.g. the image a box belongs to; boxes of different groups never meet.
        threshold: A box that overlaps a better one by more than this goes.

    Returns:
        Indices of the kept boxes by falling score, int64 (k,).
    """
    if len(boxes) == 0:
        return np.zeros(0, dtype=np.int64)
    # Shifting each group far away from the others turns per-group suppression into one call. Within a group the shift
    # is the same for all, and float64 keeps its rounding far below a pixel.
    extent = float(boxes.max()) - float(boxes.min()) + 1.0
    shifted = boxes.astype(np.float64)
    shifted[:, 2:] -= shifted[:, :2]
    shifted[:, 0] += groups * extent
    # It takes arrays, whatever its stub says.
    kept = cv2.dnn.NMSBoxes(shifted, scores, 0.0, threshold)  # type: ignore[arg-type]
    return np.asarray(kept, dtype=np.int64).reshape(-1)


def suppress_contained(boxes: FloatArray, scores: FloatArray, groups: IntArray, threshold: float) -> IntArray:
    """Greedy suppression by intersection over the smaller area: also removes a small box inside a large one.

    For the few boxes of the last stage: it takes O(n^2) memory.

    Returns:
        Indices of the kept boxes by falling score, int64 (k,).
    """
    order = np.argsort(-scores, kind="stable")
    ranked = boxes[order].astype(np.float64)
    group = groups[order]
    sizes = np.maximum(ranked[:, 2:] - ranked[:, :2] + 1.0, 0.0)
    area = sizes[:, 0] * sizes[:, 1]
    corner = np.maximum(ranked[:, None, :2], ranked[None, :, :2])
    opposite = np.minimum(ranked[:, None, 2:], ranked[None, :, 2:])
    overlap = np.maximum(opposite - corner + 1.0, 0.0).prod(axis=2)
    smaller = np.maximum(np.minimum(area[:, None], area[None, :]), np.finfo(np.float64).tiny)
    conflicts = (overlap / smaller > threshold) & (group[:, None] == group[None, :])
    conflicts = np.tril(conflicts, k=-1)  # row i: which better boxes j < i it collides with
    keep = np.ones(len(order), dtype=bool)
    # A box goes if a *kept* better one covers it. Iterating from "all kept" settles rank by rank, so it ends after at
    # most as many rounds as the longest chain of conflicts, and gives the greedy result.
    while True:
        updated = ~(conflicts & keep[None, :]).any(axis=1)
        if np.array_equal(updated, keep):
            return np.asarray(order[keep], dtype=np.int64)
        keep = updated
