"""Augmentation of face crops: pose, light, colors, equalization, blur, low resolution, grain, JPEG, occlusion."""

import math

import cv2
import numpy as np

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.training.data.image_ops import as_uint8, gaussian_blur, jpeg_compress

TRAINING_CROP_SCALE = 8 / 7
"""Side of a training crop relative to a production crop: room for augmentation to shift, rotate and zoom."""

_MIN_SIDE = 16
_LUMA = np.array([0.299, 0.587, 0.114])


def training_margin(margin: float) -> float:
    """Returns the margin of training crops whose center is the production crop with `margin`.

    >>> round(training_margin(0.4), 6)
    0.6
    """
    return (1.0 + margin) * TRAINING_CROP_SCALE - 1.0


def center_crop(crops: UInt8Array, size: int) -> UInt8Array:
    """Returns the production crops in the center of training crops.

    Args:
        crops: uint8 (n, side, side, 3).
        size: Side of the result, pixels.

    Returns:
        uint8 (n, size, size, 3).
    """
    inset = round(crops.shape[1] * (1.0 - 1.0 / TRAINING_CROP_SCALE) / 2.0)
    centers = crops[:, inset : crops.shape[1] - inset, inset : crops.shape[2] - inset]
    return np.stack([_resize(center, size) for center in centers])


def augment(crops: UInt8Array, size: int, random: np.random.Generator, strength: float = 1.0) -> UInt8Array:
    """Returns a random view of every face.

    Args:
        crops: uint8 (n, side, side, 3) RGB, cropped with `training_margin`.
        size: Side of the result, pixels.
        random: Generator of all random numbers.
        strength: Scale of all changes and of their probabilities; 0 only mirrors.

    Returns:
        uint8 (n, size, size, 3).
    """
    views = [_augment_one(np.asarray(crop), size, random, strength) for crop in crops]
    return np.array(views, dtype=np.uint8).reshape(-1, size, size, 3)


def _augment_one(crop: UInt8Array, size: int, random: np.random.Generator, strength: float) -> UInt8Array:
    view = _random_perspective(crop, size, random, strength)
    if random.random() < 0.1 * strength:
        view = gaussian_blur(view, float(random.uniform(0.5, 2.5)))
    if random.random() < 0.15 * strength:  # FER2013's photographs are equalized, others' are not
        view = _equalize(view)
    view = _random_light(view, random, strength)
    # A small face in a large photograph, in any size, so that no source is told by its resolution.
    side = round(math.exp(random.uniform(math.log(_MIN_SIDE), math.log(size))))
    small = _resize(view, side) if random.random() < 0.4 * strength else view
    if random.random() < 0.15 * strength:  # the grain of old photographs and of cameras in the dark
        grain = random.normal(scale=random.uniform(2.0, 14.0), size=small.shape[:2])
        small = np.clip(small + grain[..., None], 0.0, 255.0).astype(np.uint8)
    if random.random() < 0.2 * strength:
        small = jpeg_compress(small, int(random.integers(20, 90)))
    view = _resize(small, size)
    if random.random() < 0.25 * strength:
        view = _random_erase(view, random)
    return view


def _random_perspective(crop: UInt8Array, size: int, random: np.random.Generator, strength: float) -> UInt8Array:
    """Mirrors, rotates, zooms, shears, shifts and tilts the crop: all in one projection of homogeneous coordinates."""
    side = crop.shape[0]
    angle = strength * random.uniform(-0.3, 0.3)  # radians; 17 degrees
    zoom = side / TRAINING_CROP_SCALE / size * (1.0 + strength * random.uniform(-0.15, 0.15))
    stretch, shear = 1.0 + strength * random.uniform(-0.06, 0.06), strength * random.uniform(-0.08, 0.08)
    mirror = -1.0 if random.random() < 0.5 else 1.0
    cosine, sine = math.cos(angle), math.sin(angle)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    matrix = zoom * rotation @ np.array([[stretch, shear], [0.0, 1.0 / stretch]]) @ np.diag([mirror, 1.0])
    center = (side - 1) / 2.0 + strength * random.uniform(-0.055, 0.055, 2) * side
    # The tilt makes one edge of the view up to a sixth nearer than its center, as in a turned or bowed head.
    tilt = strength * random.uniform(-0.16, 0.16, 2) / (size / 2.0)
    around_center = np.block([[matrix, np.zeros((2, 1))], [tilt[None], np.ones((1, 1))]])
    to_center = np.array([[1.0, 0.0, -(size - 1) / 2.0], [0.0, 1.0, -(size - 1) / 2.0], [0.0, 0.0, 1.0]])
    from_center = np.array([[1.0, 0.0, center[0]], [0.0, 1.0, center[1]], [0.0, 0.0, 1.0]])
    inverse = from_center @ around_center @ to_center
    return as_uint8(cv2.warpPerspective(crop, inverse, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


def _equalize(view: UInt8Array) -> UInt8Array:
    """Equalizes the histogram of the brightness, keeping the colors."""
    channels = cv2.cvtColor(view, cv2.COLOR_RGB2YCrCb)
    channels[..., 0] = cv2.equalizeHist(channels[..., 0])
    return as_uint8(cv2.cvtColor(channels, cv2.COLOR_YCrCb2RGB))


def _random_light(view: UInt8Array, random: np.random.Generator, strength: float) -> UInt8Array:
    # One matrix for everything that is linear in the colors: grayscale or a cast, then contrast around the mean,
    # then brightness.
    cast = np.diag(1.0 + strength * random.uniform(-0.18, 0.18, 3))
    colors = np.tile(_LUMA, (3, 1)) if random.random() < 0.25 * strength else cast
    contrast, brightness = 1.0 + strength * random.uniform(-0.4, 0.35), strength * random.uniform(-35.0, 35.0)
    mean = colors @ np.asarray(cv2.mean(view)[:3])
    matrix = np.column_stack([contrast * colors, (1.0 - contrast) * mean + brightness])
    view = as_uint8(cv2.transform(view, matrix))
    if random.random() < 0.2 * strength:
        gamma_curve = 255.0 * (np.arange(256) / 255.0) ** random.uniform(0.6, 1.7)
        view = as_uint8(cv2.LUT(view, gamma_curve.astype(np.uint8)))
    return view


def _random_erase(view: UInt8Array, random: np.random.Generator) -> UInt8Array:
    size = view.shape[0]
    height, width = (random.uniform(0.1, 0.4, 2) * size).astype(int)
    top, left = random.integers(0, size - height), random.integers(0, size - width)
    view[top : top + height, left : left + width] = random.integers(0, 256)
    return view


def _resize(image: UInt8Array, size: int) -> UInt8Array:
    interpolation = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_LINEAR
    return as_uint8(cv2.resize(image, (size, size), interpolation=interpolation))
