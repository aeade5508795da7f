"""Augmentation of face crops: pose of the frame, light, grey, blur, low resolution, compression, occlusion."""

import math

import cv2
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]

ROOM = 8 / 7
"""Training crops show this much more than production's window, so that the window can move and breathe inside them."""

_LUMA = np.array([0.299, 0.587, 0.114])


def source_margin(margin: float) -> float:
    """The margin to cut training faces with, so that their middle is what production cuts with `margin`.

    >>> round(source_margin(0.4), 6)
    0.6
    """
    return (1.0 + margin) * ROOM - 1.0


def center_window(crops: UInt8Array, size: int) -> UInt8Array:
    """What production would see: the middle of (n, side, side, 3), resized to (n, size, size, 3)."""
    inset = round(crops.shape[1] * (1.0 - 1.0 / ROOM) / 2.0)
    window = crops[:, inset : crops.shape[1] - inset, inset : crops.shape[2] - inset]
    return np.stack([_resize(crop, size) for crop in window])


def augment(crops: UInt8Array, size: int, random: np.random.Generator, strength: float = 1.0) -> UInt8Array:
    """Draws a random view of every face.

    Args:
        crops: uint8 (n, side, side, 3) RGB, cut with `source_margin`.
        size: Side of the result, pixels.
        random: The source of all randomness.
        strength: Of all changes and their probabilities; 0 only mirrors.

    Returns:
        uint8 (n, size, size, 3).
    """
    views = [_view(np.asarray(crop), size, random, strength) for crop in crops]
    return np.array(views, dtype=np.uint8).reshape(-1, size, size, 3)


def _view(crop: UInt8Array, size: int, random: np.random.Generator, strength: float) -> UInt8Array:
    view = _geometry(crop, size, random, strength)
    if random.random() < 0.25 * strength:  # a small face in a large photograph
        view = _resize(_resize(view, int(random.integers(16, 72))), size)
    if random.random() < 0.1 * strength:
        view = _pixels(cv2.GaussianBlur(view, (0, 0), float(random.uniform(0.5, 2.5))))
    view = _light(view, random, strength)
    if random.random() < 0.15 * strength:
        quality = int(random.integers(20, 85))
        encoded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        view = _pixels(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    if random.random() < 0.25 * strength:
        view = _erase(view, random)
    return view


def _geometry(crop: UInt8Array, size: int, random: np.random.Generator, strength: float) -> UInt8Array:
    side = crop.shape[0]
    angle = strength * random.uniform(-0.26, 0.26)  # 15 degrees
    zoom = side / ROOM / size * (1.0 + strength * random.uniform(-0.13, 0.15))
    stretch, shear = 1.0 + strength * random.uniform(-0.06, 0.06), strength * random.uniform(-0.08, 0.08)
    mirror = -1.0 if random.random() < 0.5 else 1.0
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    matrix = zoom * turn @ np.array([[stretch, shear], [0.0, 1.0 / stretch]]) @ np.diag([mirror, 1.0])
    centre = (side - 1) / 2.0 + strength * random.uniform(-0.055, 0.055, 2) * side
    offset = centre - matrix @ np.full(2, (size - 1) / 2.0)
    inverse = np.column_stack([matrix, offset])
    return _pixels(cv2.warpAffine(crop, inverse, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


def _light(view: UInt8Array, random: np.random.Generator, strength: float) -> UInt8Array:
    # Everything that is linear in the colours is one matrix: grey or tint, then contrast around the mean, brightness.
    tint = np.diag(1.0 + strength * random.uniform(-0.12, 0.12, 3))
    colours = np.tile(_LUMA, (3, 1)) if random.random() < 0.25 * strength else tint
    contrast, brightness = 1.0 + strength * random.uniform(-0.35, 0.35), strength * random.uniform(-35.0, 35.0)
    mean = colours @ np.asarray(cv2.mean(view)[:3])
    matrix = np.column_stack([contrast * colours, (1.0 - contrast) * mean + brightness])
    view = _pixels(cv2.transform(view, matrix))
    if random.random() < 0.2 * strength:
        table = 255.0 * (np.arange(256) / 255.0) ** random.uniform(0.6, 1.7)
        view = _pixels(cv2.LUT(view, table.astype(np.uint8)))
    return view


def _erase(view: UInt8Array, random: np.random.Generator) -> UInt8Array:
    size = view.shape[0]
    height, width = (random.uniform(0.1, 0.4, 2) * size).astype(int)
    top, left = random.integers(0, size - height), random.integers(0, size - width)
    view[top : top + height, left : left + width] = random.integers(0, 256)
    return view


def _resize(image: UInt8Array, size: int) -> UInt8Array:
    interpolation = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_LINEAR
    return _pixels(cv2.resize(image, (size, size), interpolation=interpolation))


def _pixels(image: object) -> UInt8Array:
    # OpenCV's stubs know no dtype: uint8 goes in and comes out of everything above.
    return np.asarray(image, dtype=np.uint8)
