"""What the graph of an attribute model is shown of a face."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from faceattr_udf.weights import WeightsRecord

UInt8Array = npt.NDArray[np.uint8]

EMOTION_SIZE: Final = 96
"""Side at which the emotion tower sees a face: most faces whose emotion is labelled are 48 px wide, so that more pixels
show nothing more and cost time."""

GREY: Final = 115
"""The mean of ImageNet's mean pixel, in whole numbers: what lies beyond the edge of a face of bytes."""


def views(record: WeightsRecord, crops: UInt8Array) -> tuple[UInt8Array, ...]:
    """What is shown of faces, an array for each input of the graph.

    Args:
        record: Of the graph.
        crops: uint8 (n, size, size, 3) RGB.

    Returns:
        The faces as they are; or, where the record is mirrored, (2n, size + 1, size + 1, 3), each face and its mirror
        image after it, and (n, `EMOTION_SIZE` + 1, `EMOTION_SIZE` + 1, 3), the faces shrunk. These have a line of
        `GREY` right and below, which their first convolutions look at.
    """
    if not record.mirrored:
        return (crops,)
    count, size = crops.shape[:2]
    pairs, small = _framed(2 * count, size), _framed(count, EMOTION_SIZE)
    for place, crop in enumerate(crops):
        pairs[2 * place, :size, :size] = crop
        cv2.flip(crop, 1, pairs[2 * place + 1, :size, :size])  # NumPy flips ten times as slowly
        # Bilinear: at this ratio no pixel is passed over.
        cv2.resize(crop, (EMOTION_SIZE, EMOTION_SIZE), small[place, :EMOTION_SIZE, :EMOTION_SIZE])
    return pairs, small


def _framed(count: int, size: int) -> UInt8Array:
    pictures = np.empty((count, size + 1, size + 1, 3), dtype=np.uint8)
    pictures[:, size] = GREY
    pictures[:, :, size] = GREY
    return pictures
