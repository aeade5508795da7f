"""Face quality: size, blur, brightness and head pose.

Blur is the no-reference metric of Crete, Dolmiere, Ladret, Nicolas 2007, "The blur effect": blur the face again, and
measure the share of the differences between neighboring pixels that survives. A sharp face loses nearly all of them, a
blurred face has none left to lose. The face is measured at the size at which the networks see it, so that a small face
counts as blurred.

Yaw, pitch and roll come from fitting a mean 3D face to the five landmarks under scaled orthographic projection: one
matrix product and one 2 x 3 singular value decomposition per face, in closed form. The mean face is an approximation,
and pitch in particular is accurate only to about ten degrees, so use these angles to sort and filter faces, not to
measure them.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from faceattr_udf.arrays import BoolArray, Float32Array, Float64Array, UInt8Array
from faceattr_udf.results import Quality

_SIDE: Final = 96
"""Side in pixels at which blur and brightness are measured."""

_PART: Final = 64
"""Faces that are measured together; each takes half a megabyte meanwhile."""

_REBLUR: Final = 9
"""Width of the box filter that blurs the face again, as in the paper."""

_REC_601: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# Left eye, right eye, nose, left and right mouth corner of the mean frontal face: x right, y down, z into the image, in
# units of the distance between the eyes. x and y are the medians of the cascade's landmarks over 500 portraits, made
# symmetric, so that the usual pose of a portrait has pitch 0. z is from anthropometry: the nose is 25 mm in front of
# the plane of the other points, for eyes 63 mm apart.
_MEAN_FACE: Final = np.array(
    [[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.596, -0.4], [-0.441, 1.033, 0.0], [0.441, 1.033, 0.0]]
)
_FIT: Final = np.linalg.pinv(_MEAN_FACE - _MEAN_FACE.mean(axis=0)).T


def face_qualities(image: UInt8Array, boxes: npt.ArrayLike, landmarks: npt.ArrayLike) -> list[Quality]:
    """Measures all faces of an image.

    Args:
        image: uint8 (height, width, 3) RGB, upright.
        boxes: (n, 4): x_min, y_min, x_max, y_max in pixels of `image`.
        landmarks: (n, 5, 2), x and y in pixels, in the order of `results.Face`.

    Returns:
        One `Quality` per box, with finite numbers only. Blur and brightness are measured on the part of the box inside
        the frame; a box without such a part has blur 1 and brightness 0.
    """
    boxes = np.nan_to_num(np.asarray(boxes, dtype=np.float64)).reshape(-1, 4)
    if len(boxes) == 0:
        return []
    sizes = np.clip((boxes[:, 2:] - boxes[:, :2]).min(axis=1), 0.0, None)
    parts = [_blur_and_brightness(image, boxes[start : start + _PART]) for start in range(0, len(boxes), _PART)]
    rows = np.column_stack([sizes, np.concatenate(parts), head_pose(landmarks)])
    return [Quality(*row) for row in rows.tolist()]


def _blur_and_brightness(image: UInt8Array, boxes: Float64Array) -> Float64Array:
    """Returns blur and brightness of each box, float64 (n, 2)."""
    luma, visible = _visible_luma(image, boxes)
    blur = np.where(visible, blur_effect(luma), 1.0)
    brightness = np.where(visible, luma.mean(axis=(1, 2), dtype=np.float64) / 255.0, 0.0)
    return np.column_stack([blur, np.clip(brightness, 0.0, 1.0)])


def blur_effect(luma: Float32Array) -> Float64Array:
    """Computes the blur metric of Crete et al. for a batch of images.

    Args:
        luma: float32 (n, height, width), 0 to 255.

    Returns:
        float64 (n,): 0 (sharp) to 1 (no detail), the larger value of the two directions.
    """
    kernel = np.full(_REBLUR, 1.0 / _REBLUR, dtype=np.float32)
    one = np.ones(1, dtype=np.float32)
    worst = np.zeros(len(luma))
    for axis, (kernel_x, kernel_y) in ((1, (one, kernel)), (2, (kernel, one))):
        reblurred = np.stack([cv2.sepFilter2D(face, cv2.CV_32F, kernel_x, kernel_y) for face in luma])
        # Differences of one gray level are rounding steps of a smooth slope, not detail.
        detail = np.maximum(np.abs(np.diff(luma, axis=axis)) - 1.0, 0.0)
        lost = np.maximum(detail - np.abs(np.diff(reblurred, axis=axis)), 0.0).sum(axis=(1, 2), dtype=np.float64)
        total = detail.sum(axis=(1, 2), dtype=np.float64)
        blur = 1.0 - np.divide(lost, total, out=np.zeros_like(lost), where=total > 0.0)
        worst = np.maximum(worst, blur)
    return np.clip(worst, 0.0, 1.0)


def head_pose(landmarks: npt.ArrayLike) -> Float64Array:
    """Estimates head poses.

    Args:
        landmarks: (n, 5, 2), x and y in pixels, in the order of `results.Face`.

    Returns:
        float64 (n, 3): yaw, pitch and roll in degrees with the signs of `results.Quality`. The rotations apply in the
        order pitch, yaw, roll.
    """
    points = np.nan_to_num(np.asarray(landmarks, dtype=np.float64)).reshape(-1, 5, 2)
    points = points - points.mean(axis=1, keepdims=True)
    # The least-squares linear map from the mean face to the points, (n, 2, 3), then the rotation nearest to it.
    left, _, right = np.linalg.svd(points.transpose(0, 2, 1) @ _FIT, full_matrices=False)
    rows = left @ right
    depth = np.cross(rows[:, 0], rows[:, 1])
    yaw = np.arcsin(np.clip(depth[:, 0], -1.0, 1.0))
    pitch = -np.arctan2(depth[:, 1], depth[:, 2])
    roll = np.arctan2(rows[:, 1, 0], rows[:, 0, 0])
    angles: Float64Array = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return angles


def _visible_luma(image: UInt8Array, boxes: Float64Array) -> tuple[Float32Array, BoolArray]:
    """Returns the visible part of each box as Rec. 601 luma, float32 (n, side, side), and which boxes have one."""
    height, width = image.shape[:2]
    first = np.clip(np.floor(boxes[:, :2]), 0, [width, height]).astype(np.int64)
    last = np.clip(np.ceil(boxes[:, 2:]), 0, [width, height]).astype(np.int64)
    visible: BoolArray = np.all(last > first, axis=1)
    pixels = np.zeros((len(boxes), _SIDE, _SIDE, 3), dtype=np.uint8)
    for index in np.flatnonzero(visible):
        (left, top), (right, bottom) = first[index], last[index]
        shrinks = min(right - left, bottom - top) >= _SIDE
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels[index] = cv2.resize(image[top:bottom, left:right], (_SIDE, _SIDE), interpolation=interpolation)
    luma: Float32Array = pixels.astype(np.float32) @ _REC_601
    return luma, visible
