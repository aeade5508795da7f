"""Preprocessing: converts face crops into the inputs of an attribute network."""

import cv2
import numpy as np

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.weights import WeightsRecord
from faceattr_udf.weights.inputs import EMOTION_SIZE, PADDING, PADDING_VALUE


def preprocess(record: WeightsRecord, crops: UInt8Array) -> tuple[UInt8Array, ...]:
    """Converts face crops into one array per entry of `record.inputs`.

    Args:
        record: Record of the network.
        crops: uint8 (n, size, size, 3) RGB.

    Returns:
        The crops themselves; or, for a mirrored record, (2n, size + 1, size + 1, 3), each face followed by its mirror
        image, and (n, `EMOTION_SIZE` + 1, `EMOTION_SIZE` + 1, 3), the faces resized. Both are padded on the right and
        at the bottom with `PADDING_VALUE`.
    """
    if not record.mirrored:
        return (crops,)
    count, size = crops.shape[:2]
    pairs, small = _padded(2 * count, size), _padded(count, EMOTION_SIZE)
    for index, crop in enumerate(crops):
        pairs[2 * index, :size, :size] = crop
        cv2.flip(crop, 1, pairs[2 * index + 1, :size, :size])  # ten times as fast as NumPy
        # Bilinear interpolation skips no pixel at this ratio.
        cv2.resize(crop, (EMOTION_SIZE, EMOTION_SIZE), small[index, :EMOTION_SIZE, :EMOTION_SIZE])
    return pairs, small


def _padded(count: int, size: int) -> UInt8Array:
    """Returns uninitialized images (count, size + 1, size + 1, 3) with the padding filled in."""
    images = np.empty((count, size + PADDING, size + PADDING, 3), dtype=np.uint8)
    images[:, size:] = PADDING_VALUE
    images[:, :, size:] = PADDING_VALUE
    return images
