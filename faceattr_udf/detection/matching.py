"""Compares the boxes that two detectors find in the same images."""

from collections.abc import Sequence

import numpy as np

from faceattr_udf.arrays import Float32Array
from faceattr_udf.detection.boxes import box_iou

MIN_IOU = 0.9
"""Two detections with this IoU or more count as the same face."""


def match_boxes(boxes: Float32Array, others: Float32Array, min_iou: float = MIN_IOU) -> list[tuple[int, int]]:
    """Matches boxes one to one, pairs with the largest IoU first.

    Args:
        boxes: float32 (n, 4): x_min, y_min, x_max, y_max in pixels.
        others: float32 (m, 4).
        min_iou: Smallest IoU of a match.

    Returns:
        Indices into `boxes` and `others`.

    >>> box = np.array([[0, 0, 10, 10]], dtype=np.float32)
    >>> match_boxes(box, np.concatenate([box + 5, box])), match_boxes(box, box + 5)
    ([(0, 1)], [])
    """
    iou = box_iou(boxes, others)
    pairs = []
    while iou.size and iou.max() >= min_iou:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        iou[row], iou[:, column] = 0.0, 0.0
        pairs.append((int(row), int(column)))
    return pairs


def count_matches(boxes: Sequence[Float32Array], others: Sequence[Float32Array]) -> tuple[int, int]:
    """Counts the faces that two detectors both found, over all images.

    Args:
        boxes: Per image the boxes of one detector, float32 (n, 4).
        others: Per image the boxes of the other.

    Returns:
        The number of matches, and the sum over images of the larger number of boxes: equal if both found the same.
    """
    pairs = zip(boxes, others, strict=True)
    counts = [(len(match_boxes(one, other)), max(len(one), len(other))) for one, other in pairs]
    return sum(matches for matches, _ in counts), sum(faces for _, faces in counts)
