"""Cutting: the network's square view of a face, the same in training and in production."""

import math

import cv2
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]


def cut_face(image: UInt8Array, box: npt.ArrayLike, size: int, margin: float) -> UInt8Array:
    """Cuts a square around a face and resizes it.

    The square is centred on the box's part inside the frame and `1 + margin` times that part's longer side; what lies
    outside the frame is black.
    Shrinking averages areas (no aliasing) of a square that begins and ends at whole pixels, which is exact to half a
    pixel of the result; enlarging interpolates linearly and begins wherever the square does.

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
    side = max(1.0, max(x_max - x_min, y_max - y_min) * (1.0 + margin))
    left, top = (x_min + x_max - side) / 2.0, (y_min + y_max - side) / 2.0
    if side > size:
        cut = _shrink(image, round(left), round(top), round(side), size)
    else:
        cut = _enlarge(image, left, top, side / size, size)
    return np.ascontiguousarray(cut.reshape(size, size, image.shape[2]), dtype=np.uint8)


def _shrink(image: UInt8Array, left: int, top: int, side: int, size: int) -> npt.NDArray[np.generic]:
    height, width = image.shape[:2]
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
    return cv2.resize(padded, (size, size), interpolation=cv2.INTER_AREA)


def _enlarge(image: UInt8Array, left: float, top: float, scale: float, size: int) -> npt.NDArray[np.generic]:
    height, width = image.shape[:2]
    # Centres of the result's pixels in the image, whose own first pixel has its centre at 0.5.
    steps = (np.arange(size) + 0.5) * scale
    inside = [(start + steps >= 0.0) & (start + steps <= end) for start, end in ((top, height), (left, width))]
    # Only the neighbourhood: OpenCV warps no image wider than 32,767 pixels.
    x, y = (min(max(math.floor(start) - 1, 0), end - 1) for start, end in ((left, width), (top, height)))
    near = image[y : y + size + 3, x : x + size + 3]
    offset = 0.5 * scale - 0.5
    inverse = np.array([[scale, 0.0, left - x + offset], [0.0, scale, top - y + offset]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(near, inverse, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    # The edge's pixels reach to the frame and not beyond.
    visible = inside[0][:, None] & inside[1][None]
    return np.where(visible.reshape(size, size, *[1] * (cut.ndim - 2)), cut, 0)
