"""Image degradations shared by the augmentation of face crops and by synthetic scenes."""

import cv2
import numpy as np

from faceattr_udf.arrays import UInt8Array


def as_uint8(image: object) -> UInt8Array:
    """Casts the result of an OpenCV function, whose stubs declare no dtype, to uint8."""
    return np.asarray(image, dtype=np.uint8)


def gaussian_blur(image: UInt8Array, sigma: float) -> UInt8Array:
    """Blurs an image; sigma in pixels."""
    return as_uint8(cv2.GaussianBlur(image, (0, 0), sigma))


def jpeg_compress(image: UInt8Array, quality: int) -> UInt8Array:
    """Encodes an image as JPEG and decodes it again; quality from 0 to 100."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return as_uint8(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
