"""Quarter turns of images, points and boxes, for photographs that were taken or scanned sideways."""

import numpy as np

from faceattr_udf.arrays import Float32Array, UInt8Array


def turn_image(image: UInt8Array, degrees: int) -> UInt8Array:
    """Turns an image clockwise by a multiple of 90 degrees; (height, width, 3), contiguous."""
    return np.ascontiguousarray(np.rot90(image, -(degrees // 90)))


def turn_points(points: Float32Array, degrees: int, width: int, height: int) -> Float32Array:
    """Maps points of an image to the image turned clockwise.

    Args:
        points: float32 (..., 2), x and y in pixels of the image.
        degrees: 0, 90, 180 or 270.
        width: Of the image before it is turned, pixels.
        height: Likewise.

    >>> turn_points(np.array([[10, 0]], dtype=np.float32), 90, width=40, height=30).tolist()
    [[30.0, 10.0]]
    """
    x, y = points[..., 0], points[..., 1]
    turned = {0: (x, y), 90: (height - y, x), 180: (width - x, height - y), 270: (y, width - x)}[degrees]
    return np.stack(turned, axis=-1).astype(np.float32)


def turn_boxes(boxes: Float32Array, degrees: int, width: int, height: int) -> Float32Array:
    """Maps boxes, float32 (n, 4), as `turn_points` maps points."""
    corners = turn_points(boxes.reshape(-1, 2, 2), degrees, width, height)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
