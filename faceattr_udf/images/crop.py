"""Cutting: the network's square view of a face, the same in training and in production."""

import cv2
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]


def cut_face(image: UInt8Array, box: npt.ArrayLike, size: int, margin: float) -> UInt8Array:
    """Cuts a square around a face and resizes it.

    The square is centred on the box's part inside the frame and `1 + margin` times that part's longer side; what lies
    outside the frame is black.
    Shrinking averages areas (no aliasing); enlarging interpolates linearly.

    Args:
        image: uint8 (height, width, channels).
        box: x_min, y_min, x_max, y_max in pixels of `image`.
        size: Side of the result, pixels.
        margin: Of the box's longer side, both sides together: 0.4 adds 20 % on each side.

    Returns:
        uint8 (size, size, channels), contiguous.
    """
    height, width = image.shape[:2]
    # A face that the frame cuts often gets a box far outside; what can be seen of it is what should fill the cut.
    x_min, y_min, x_max, y_max = np.clip(np.asarray(box, dtype=np.float64), 0.0, [width, height, width, height])
    side = max(1, round(max(x_max - x_min, y_max - y_min) * (1.0 + margin)))
    left = round((x_min + x_max - side) / 2.0)
    top = round((y_min + y_max - side) / 2.0)
    inner = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    if inner.size == 0:
        return np.zeros((size, size, image.shape[2]), dtype=np.uint8)
    padded = cv2.copyMakeBorder(
        inner,
        min(max(-top, 0), side),
        min(max(top + side - height, 0), side),
        min(max(-left, 0), side),
        min(max(left + side - width, 0), side),
        cv2.BORDER_CONSTANT,
    )
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(padded, (size, size), interpolation=interpolation), dtype=np.uint8)
