"""Square face crops, the same in training and in production."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from faceattr_udf.arrays import UInt8Array


def crop_face(image: UInt8Array, box: npt.ArrayLike, size: int, margin: float) -> UInt8Array:
    """Crops a square around a face and resizes it.

    The square is centered on the part of the box inside the frame, and its side is `1 + margin` times the longer side
    of that part. Pixels outside the frame are black.

    Shrinking averages areas (no aliasing) over a square rounded to whole pixels, which is exact to half a pixel of the
    result; enlarging interpolates linearly from the exact position.

    Args:
        image: uint8 (height, width, channels).
        box: x_min, y_min, x_max, y_max in pixels of `image`.
        size: Side of the result, pixels.
        margin: Fraction of the box's longer side, for both sides together: 0.4 adds 20 % on each side.

    Returns:
        uint8 (size, size, channels), contiguous.
    """
    height, width = image.shape[:2]
    # A face that is cut off by the frame often gets a box far outside; its visible part should fill the crop.
    x_min, y_min, x_max, y_max = np.clip(np.asarray(box, dtype=np.float64), 0.0, [width, height, width, height])
    side = max(1.0, max(x_max - x_min, y_max - y_min) * (1.0 + margin))
    left, top = (x_min + x_max - side) / 2.0, (y_min + y_max - side) / 2.0
    if side > size:
        crop = _shrink(image, round(left), round(top), round(side), size)
    else:
        crop = _enlarge(image, left, top, side / size, size)
    return np.ascontiguousarray(crop.reshape(size, size, image.shape[2]), dtype=np.uint8)


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
    # Centers of the result's pixels in image coordinates, where the first pixel has its center at 0.5.
    steps = (np.arange(size) + 0.5) * scale
    inside = [(start + steps >= 0.0) & (start + steps <= end) for start, end in ((top, height), (left, width))]
    # Only the neighborhood, because OpenCV cannot warp images wider than 32,767 pixels.
    x, y = (min(max(math.floor(start) - 1, 0), end - 1) for start, end in ((left, width), (top, height)))
    near = image[y : y + size + 3, x : x + size + 3]
    offset = 0.5 * scale - 0.5
    inverse = np.array([[scale, 0.0, left - x + offset], [0.0, scale, top - y + offset]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(near, inverse, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    # Edge pixels are replicated up to the frame and not beyond.
    visible = inside[0][:, None] & inside[1][None]
    return np.where(visible.reshape(size, size, *[1] * (crop.ndim - 2)), crop, 0)
