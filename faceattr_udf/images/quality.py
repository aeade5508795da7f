"""How well a face can be seen: size, blur, brightness, and where the head turns.

Blur is the no-reference metric of Crete, Dolmiere, Ladret, Nicolas 2007, "The blur effect": blur the picture again and
see how much of the difference between neighbouring pixels that destroys. A sharp face loses nearly all of it, a blurred
one has none left to lose. The face is measured at the size at which the networks look at it, so that enlarging a small
face counts as the blur that it is.

Yaw, pitch and roll come from the five landmarks: the rigid motion, seen from afar (orthographic projection and one
scale), that carries a mean face onto them best. That is one matrix product and one 2 x 3 singular value decomposition
for each face, in closed form. The mean face is an approximation, so pitch above all is good to some ten degrees: use
these angles to sort and to filter, not to measure.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from faceattr_udf.results import BoundingBox, Quality

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

_SIDE: Final = 96
_REBLUR: Final = 9
_REC_601: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# Left eye, right eye, nose, left and right mouth corner of the mean frontal face: x right, y down, z into the picture,
# in distances between the eyes. x and y are the medians of the cascade's landmarks over 500 portraits, made symmetric,
# so that a portrait's usual pose is level; z is anthropometry: the nose stands out of the plane of the others by 25 mm
# where the eyes are 63 mm apart.
_MEAN_FACE: Final = np.array(
    [[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.596, -0.4], [-0.441, 1.033, 0.0], [0.441, 1.033, 0.0]]
)
_FIT: Final = np.linalg.pinv(_MEAN_FACE - _MEAN_FACE.mean(axis=0)).T


def face_quality(image: UInt8Array, bbox: BoundingBox, landmarks: npt.ArrayLike) -> Quality:
    """Measures one face.

    Args:
        image: uint8 (height, width, 3) RGB, upright.
        bbox: The face's box, pixels of `image`.
        landmarks: (5, 2), x and y in pixels, in the order of `results.Face`.

    Returns:
        Finite numbers, also where the box has no area, lies outside the frame, or the landmarks coincide.
    """
    box = np.array([[bbox.x_min, bbox.y_min, bbox.x_max, bbox.y_max]])
    return face_qualities(image, box, np.asarray(landmarks)[None])[0]


def face_qualities(image: UInt8Array, boxes: npt.ArrayLike, landmarks: npt.ArrayLike) -> list[Quality]:
    """Measures all faces of an image together.

    Args:
        image: uint8 (height, width, 3) RGB, upright.
        boxes: (n, 4): x_min, y_min, x_max, y_max in pixels of `image`.
        landmarks: (n, 5, 2), x and y in pixels, in the order of `results.Face`.

    Returns:
        One `Quality` per box. Blur and brightness are of the part of the box inside the frame; a box with no such part
        has blur 1 and brightness 0.
    """
    boxes = np.nan_to_num(np.asarray(boxes, dtype=np.float64)).reshape(-1, 4)
    if len(boxes) == 0:
        return []
    sizes = np.clip((boxes[:, 2:] - boxes[:, :2]).min(axis=1), 0.0, None)
    luma, seen = _luma(image, boxes)
    blur = np.where(seen, blur_effect(luma), 1.0)
    brightness = np.where(seen, luma.mean(axis=(1, 2), dtype=np.float64) / 255.0, 0.0)
    rows = np.column_stack([sizes, blur, np.clip(brightness, 0.0, 1.0), head_pose(landmarks)])
    return [Quality(*row) for row in rows.tolist()]


def blur_effect(luma: npt.NDArray[np.float32]) -> FloatArray:
    """Crete's blur metric of a batch of pictures.

    Args:
        luma: float32 (n, height, width), 0 to 255.

    Returns:
        float64 (n,): 0 (sharp) to 1 (no detail), the worse of the two directions; 1 where there is no detail at all.
    """
    kernel = np.full(_REBLUR, 1.0 / _REBLUR, dtype=np.float32)
    one = np.ones(1, dtype=np.float32)
    worst = np.zeros(len(luma))
    for axis, (kernel_x, kernel_y) in ((1, (one, kernel)), (2, (kernel, one))):
        again = np.stack([cv2.sepFilter2D(face, cv2.CV_32F, kernel_x, kernel_y) for face in luma])
        # One grey level is what rounding leaves of a smooth slope: sharp steps, but no detail.
        detail = np.maximum(np.abs(np.diff(luma, axis=axis)) - 1.0, 0.0)
        lost = np.maximum(detail - np.abs(np.diff(again, axis=axis)), 0.0).sum(axis=(1, 2), dtype=np.float64)
        total = detail.sum(axis=(1, 2), dtype=np.float64)
        blur = 1.0 - np.divide(lost, total, out=np.zeros_like(lost), where=total > 0.0)
        worst = np.maximum(worst, blur)
    return np.clip(worst, 0.0, 1.0)


def head_pose(landmarks: npt.ArrayLike) -> FloatArray:
    """Estimates where heads turn.

    Args:
        landmarks: (n, 5, 2), x and y in pixels, in the order of `results.Face`.

    Returns:
        float64 (n, 3): yaw, pitch and roll in degrees with the signs of `results.Quality`. The head first nods, then
        turns, then leans in the plane of the picture.
    """
    points = np.nan_to_num(np.asarray(landmarks, dtype=np.float64)).reshape(-1, 5, 2)
    points = points - points.mean(axis=1, keepdims=True)
    # (n, 2, 3): the best linear map from the mean face to the points, then the rotation nearest to it.
    left, _, right = np.linalg.svd(points.transpose(0, 2, 1) @ _FIT, full_matrices=False)
    rows = left @ right
    depth = np.cross(rows[:, 0], rows[:, 1])
    yaw = np.arcsin(np.clip(depth[:, 0], -1.0, 1.0))
    pitch = -np.arctan2(depth[:, 1], depth[:, 2])
    roll = np.arctan2(rows[:, 1, 0], rows[:, 0, 0])
    angles: FloatArray = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return angles


def _luma(image: UInt8Array, boxes: FloatArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Cuts the boxes' visible parts, float32 (n, side, side) Rec. 601 luma, and says which have any."""
    height, width = image.shape[:2]
    first = np.clip(np.floor(boxes[:, :2]), 0, [width, height]).astype(np.int64)
    last = np.clip(np.ceil(boxes[:, 2:]), 0, [width, height]).astype(np.int64)
    seen: npt.NDArray[np.bool_] = np.all(last > first, axis=1)
    pixels = np.zeros((len(boxes), _SIDE, _SIDE, 3), dtype=np.uint8)
    for index in np.flatnonzero(seen):
        (left, top), (right, bottom) = first[index], last[index]
        shrinks = min(right - left, bottom - top) >= _SIDE
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels[index] = cv2.resize(image[top:bottom, left:right], (_SIDE, _SIDE), interpolation=interpolation)
    luma: npt.NDArray[np.float32] = pixels.astype(np.float32) @ _REC_601
    return luma, seen
