"""The integral image, from which pyramid levels, windows and candidate crops are area-averaged."""

from functools import cached_property
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from faceattr_udf.arrays import Float32Array, Int64Array, UInt8Array

_MAX_SUM_PIXELS: Final = 257
"""The most pixels of value 255 whose sum fits into 16 bits."""

_STRIP: Final = 32
"""Level rows, or candidates, that are processed together: their memory stays in the processor's cache."""


class IntegralImage:
    """The integral image, or summed-area table (Crow 1984): the mean of any rectangle costs four look-ups.

    Every pyramid level and every candidate is area-averaged from it, without a loop over boxes. The bins are those of
    adaptive average pooling: output i of m over n pixels covers [floor(i n / m), ceil((i + 1) n / m)). They overlap by
    up to a pixel, so levels are slightly softer than with exact areas. facenet-pytorch resizes this way, and the same
    faces are found only if the same unrounded pixels go in.

    Most of the time is spent moving memory, so the table is as narrow as possible: four 16-bit sums (red, green, blue
    and padding) are one machine word per pixel. Sums wrap around, but differences of unsigned numbers are unaffected,
    and the sum over a rectangle of up to 257 pixels of value 255 fits. Larger bins are added up from parts of that
    size.
    """

    def __init__(self, image: UInt8Array) -> None:
        """Sums uint8 (height, width, 3)."""
        self.height, self.width = image.shape[:2]
        self._image = image
        sums = np.empty((self.height + 1, self.width + 1, 4), dtype=np.uint16)
        sums[0] = 0
        for start in range(0, self.height, _STRIP):
            strip = cv2.integral(image[start : start + _STRIP], sdepth=cv2.CV_32S)[1:].astype(np.uint16)
            below = sums[start + 1 : start + 1 + len(strip)]
            cv2.cvtColor(strip, cv2.COLOR_RGB2RGBA, dst=below)
            below += sums[start]
        self._sums = sums.view(np.uint64)[..., 0]

    def level(self, scale: float) -> Float32Array:
        """Resizes the image to one scale of the pyramid.

        Returns:
            float32 (floor(height * scale + 1), floor(width * scale + 1), 4), values 0-255; the last channel is 0.
        """
        rows, columns = self._level_bins(scale)
        height, width = rows.shape[1], columns.shape[1]
        parts = _parts(rows, columns)
        row_edges, column_edges = _edges(rows, parts), _edges(columns, parts)
        heights, widths = (np.diff(bins, axis=0)[0].astype(np.float32) for bins in (rows, columns))
        counts = heights[:, None] * widths.repeat(4)
        level = np.empty((height, width * 4), dtype=np.float32)
        for start in range(0, height, _STRIP):
            strip = slice(start, start + _STRIP)
            total = None
            for low, high in pairwise(row_edges):
                lines = self._sums.take(high[strip], axis=0).view(np.uint16)
                lines -= self._sums.take(low[strip], axis=0).view(np.uint16)
                words = lines.view(np.uint64)
                for left, right in pairwise(column_edges):
                    part = words.take(right, axis=1).view(np.uint16)
                    part -= words.take(left, axis=1).view(np.uint16)
                    total = part if total is None else total + part.astype(np.uint32)
            assert total is not None  # noqa: S101 - there is at least one part
            # Converted before: NumPy divides numbers of two types in small pieces.
            part = level[strip]
            part[:] = total.reshape(part.shape)
            np.divide(part, counts[strip], out=part)
        return level.reshape(height, width, 4)

    @cached_property
    def _half(self) -> UInt8Array:
        even = self._image[: self.height // 2 * 2, : self.width // 2 * 2]
        half = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        # Blurred to the softness of `level`, so that remains of fine patterns do not look like faces.
        return np.asarray(cv2.blur(half, (2, 2), anchor=(0, 0)), dtype=np.uint8)

    def coarse_level(self, scale: float) -> UInt8Array:
        """Resizes the image fast and approximately, for the prefilter.

        Args:
            scale: At most 0.5; both sides of the image are at least 2 px.

        Returns:
            uint8 (floor(height * scale + 1), floor(width * scale + 1), 4); the last channel is padding.
        """
        height, width = self.level_size(scale)
        small = cv2.resize(self._half, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2RGBA), dtype=np.uint8)

    def level_size(self, scale: float) -> tuple[int, int]:
        """Returns height and width of a level."""
        return int(self.height * scale + 1), int(self.width * scale + 1)

    def windows(self, scale: float, rows: Int64Array, columns: Int64Array) -> Float32Array:
        """Returns windows of a level without computing the whole level.

        Args:
            scale: The level's scale; its bins must be small enough for their sums to fit into 16 bits.
            rows: int64 (n, h), the level's rows that each window shows.
            columns: int64 (n, w), the level's columns that each window shows.

        Returns:
            float32 (n, h, w, 4), equal to those pixels of `level`.
        """
        row_bins, column_bins = self._level_bins(scale)
        assert _parts(row_bins, column_bins) == 1  # noqa: S101 - the caller requests fine levels only
        heights, widths = np.diff(row_bins, axis=0)[0], np.diff(column_bins, axis=0)[0]
        words, stride = self._sums.reshape(-1), self.width + 1
        (top, bottom), (left, right) = row_bins * stride, column_bins
        windows = np.empty((*rows.shape, columns.shape[1], 4), dtype=np.float32)
        for start in range(0, len(rows), _STRIP):
            row, column = rows[start : start + _STRIP], columns[start : start + _STRIP]
            high, low = bottom[row][:, :, None], top[row][:, :, None]
            far, near = right[column][:, None, :], left[column][:, None, :]
            total = _rectangle_sums(words, low, high, near, far)
            counts = heights[row].astype(np.float32)[:, :, None] * widths[column].astype(np.float32)[:, None, :]
            part = windows[start : start + _STRIP]
            np.divide(total.reshape(part.shape), counts[..., None], out=part, casting="same_kind")
        return windows

    def _level_bins(self, scale: float) -> tuple[Int64Array, Int64Array]:
        height, width = self.level_size(scale)
        origin = np.zeros(1, np.int64)
        rows = _bins(origin, np.array([self.height]), height)[:, 0]
        return rows, _bins(origin, np.array([self.width]), width)[:, 0]

    def crop_and_resize(self, boxes: Int64Array, size: int) -> Float32Array:
        """Resizes rectangles to squares; pixels outside the image are black.

        Args:
            boxes: int64 (n, 4): x_min, y_min, x_max, y_max, half-open, at least 1 px in each direction.
            size: Side of the result, pixels.

        Returns:
            float32 (n, size, size, 4), values 0-255; the last channel is 0.
        """
        crops = np.empty((len(boxes), size, size, 4), dtype=np.float32)
        # Sorted by area, so that few boxes share a strip with one so large that its bins must be split.
        order = np.argsort((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable")
        for start in range(0, len(boxes), _STRIP):
            strip = order[start : start + _STRIP]
            crops[strip] = self._crop_strip(boxes[strip], size)
        return crops

    def _crop_strip(self, boxes: Int64Array, size: int) -> Float32Array:
        rows, columns = (_bins(boxes[:, axis], boxes[:, axis + 2], size) for axis in (1, 0))
        counts = (rows[1] - rows[0])[:, :, None] * (columns[1] - columns[0])[:, None, :]
        parts = _parts(rows, columns)
        words, stride = self._sums.reshape(-1), self.width + 1
        row_edges = [np.clip(edge, 0, self.height)[:, :, None] * stride for edge in _edges(rows, parts)]
        column_edges = [np.clip(edge, 0, self.width)[:, None, :] for edge in _edges(columns, parts)]
        total = None
        for top, bottom in pairwise(row_edges):
            for left, right in pairwise(column_edges):
                part = _rectangle_sums(words, top, bottom, left, right)
                total = part if total is None else total + part.astype(np.uint32)
        assert total is not None  # noqa: S101 - there is at least one part
        crops = np.empty((len(boxes), size, size, 4), dtype=np.float32)
        total = total.reshape(crops.shape)
        np.divide(total, counts[..., None].astype(np.float32), out=crops, casting="same_kind")
        return crops


def _rectangle_sums(
    words: npt.NDArray[np.uint64], top: Int64Array, bottom: Int64Array, left: Int64Array, right: Int64Array
) -> npt.NDArray[np.uint16]:
    """Returns the four channel sums of every rectangle; `top` and `bottom` are offsets of row starts in `words`."""
    total = words.take(bottom + right).view(np.uint16)
    total -= words.take(bottom + left).view(np.uint16)
    total -= words.take(top + right).view(np.uint16)
    total += words.take(top + left).view(np.uint16)
    return total


def _bins(low: Int64Array, high: Int64Array, size: int) -> Int64Array:
    """Splits each range [low, high) into `size` bins: starts and ends, int64 (2, n, size)."""
    steps = np.arange(size, dtype=np.int64)
    length = (high - low)[:, None]
    start = low[:, None] + steps * length // size
    end = low[:, None] - (-(steps + 1) * length // size)  # rounds up
    return np.stack([start, end])


def _parts(rows: Int64Array, columns: Int64Array) -> int:
    """Returns into how many parts the bins must be split in each direction so that their sums fit into 16 bits."""
    height, width = (int((bins[1] - bins[0]).max(initial=1)) for bins in (rows, columns))
    parts = 1
    while -(-height // parts) * -(-width // parts) > _MAX_SUM_PIXELS:
        parts += 1
    return parts


def _edges(bins: Int64Array, parts: int) -> list[Int64Array]:
    """Returns the `parts` + 1 edges that split every bin evenly."""
    return [bins[0] + (bins[1] - bins[0]) * part // parts for part in range(parts + 1)]
