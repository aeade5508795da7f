"""Scales: the image pyramid that P-Net slides over and the candidates, all resized from one table of summed areas."""

import cv2
import numpy as np
import numpy.typing as npt

from faceattr_udf.detection.boxes import FloatArray

UInt8Array = npt.NDArray[np.uint8]

PNET_CELL = 12
"""P-Net's receptive field, pixels: the smallest face that one level can show."""


def pyramid_scales(height: int, width: int, min_face_size: int, factor: float) -> list[float]:
    """The scales at which faces from `min_face_size` pixels up to the whole image become 12 px faces."""
    scale = PNET_CELL / min_face_size
    shorter = min(height, width) * scale
    scales = []
    while shorter >= PNET_CELL:
        scales.append(scale)
        scale *= factor
        shorter *= factor
    return scales


class SummedAreas:
    """The summed-area table of an image (Crow 1984): the mean of any rectangle costs four look-ups.

    Every pyramid level and every candidate is area-averaged from it, with no loop over boxes. The bins are those of
    adaptive average pooling, output i of m over n pixels covering [floor(i n / m), ceil((i + 1) n / m)): they overlap
    by up to a pixel, so levels are a little softer than by exact areas. facenet-pytorch resizes this way, and the same
    faces come out only if the same pixels go in, unrounded.
    """

    def __init__(self, image: UInt8Array) -> None:
        """Sums uint8 (height, width, 3)."""
        self.height, self.width = image.shape[:2]
        # Sums wrap around at 2^32 on very large images; differences of unsigned numbers stay exact all the same.
        self._table = cv2.integral(image, sdepth=cv2.CV_32S).view(np.uint32)

    def level(self, scale: float) -> FloatArray:
        """Resizes the image to one scale of `pyramid_scales`.

        Returns:
            float32 (floor(height * scale + 1), floor(width * scale + 1), 3), values 0-255.
        """
        y_start, y_end = _bins(np.zeros(1, np.int64), np.array([self.height]), int(self.height * scale + 1))
        x_start, x_end = _bins(np.zeros(1, np.int64), np.array([self.width]), int(self.width * scale + 1))
        rows = self._table[y_end[0]] - self._table[y_start[0]]
        total = rows[:, x_end[0]]
        total -= rows[:, x_start[0]]
        count = (y_end - y_start)[0, :, None] * (x_end - x_start)[0, None, :]
        return np.asarray(total / count[..., None].astype(np.float32), dtype=np.float32)

    def resize(self, boxes: npt.NDArray[np.int64], size: int) -> FloatArray:
        """Resizes rectangles to squares; what lies outside the image is black.

        Args:
            boxes: int64 (n, 4): x_min, y_min, x_max, y_max, half-open, at least 1 px each way.
            size: Side of the result, pixels.

        Returns:
            float32 (n, size, size, 3), values 0-255.
        """
        x_start, x_end = _bins(boxes[:, 0], boxes[:, 2], size)
        y_start, y_end = _bins(boxes[:, 1], boxes[:, 3], size)
        count = (y_end - y_start)[:, :, None] * (x_end - x_start)[:, None, :]
        stride = self.width + 1
        y_start, y_end = (np.clip(edge, 0, self.height) * stride for edge in (y_start, y_end))
        x_start, x_end = (np.clip(edge, 0, self.width) for edge in (x_start, x_end))
        top, bottom = y_start[:, :, None], y_end[:, :, None]
        left, right = x_start[:, None, :], x_end[:, None, :]
        table = self._table.reshape(-1, 3)
        total = table[bottom + right]
        total -= table[bottom + left]
        total -= table[top + right]
        total += table[top + left]
        return np.asarray(total / count[..., None].astype(np.float32), dtype=np.float32)


def _bins(
    low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Splits each range [low, high) into `size` bins: starts and ends, int64 (n, size) each."""
    steps = np.arange(size, dtype=np.int64)
    length = (high - low)[:, None]
    start = low[:, None] + steps * length // size
    end = low[:, None] - (-(steps + 1) * length // size)  # the ceiling
    return start, end
