"""Scales: the image pyramid that P-Net slides over and the candidates, all resized from one table of summed areas."""

from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from faceattr_udf.detection.boxes import FloatArray

UInt8Array = npt.NDArray[np.uint8]

PNET_CELL = 12
"""P-Net's receptive field, pixels: the smallest face that one level can show."""


# Most pixels of 255 whose sum fits into 16 bits.
_LARGEST_SUM = 257
# Rows of a level, or candidates, that are worked on together: their memory stays in the processor's cache.
_STRIP = 32


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

    The time goes into moving memory, so the table is as narrow as it can be: four sums of 16 bits, red, green, blue and
    a filler, are one machine word a pixel. Sums wrap around, but differences of unsigned numbers do not care, and the
    sum of a rectangle of up to 257 pixels of 255 fits. Larger bins are added up from parts of that size.
    """

    def __init__(self, image: UInt8Array) -> None:
        """Sums uint8 (height, width, 3)."""
        self.height, self.width = image.shape[:2]
        self._image = image
        sums = np.empty((self.height + 1, self.width + 1, 4), dtype=np.uint16)
        sums[0] = 0
        # Strip by strip, for the same reason as everywhere here.
        for start in range(0, self.height, _STRIP):
            strip = cv2.integral(image[start : start + _STRIP], sdepth=cv2.CV_32S)[1:].astype(np.uint16)
            below = sums[start + 1 : start + 1 + len(strip)]
            cv2.cvtColor(strip, cv2.COLOR_RGB2RGBA, dst=below)
            below += sums[start]
        self._table = sums.view(np.uint64)[..., 0]

    def level(self, scale: float) -> FloatArray:
        """Resizes the image to one scale of `pyramid_scales`.

        Returns:
            float32 (floor(height * scale + 1), floor(width * scale + 1), 4), values 0-255; the last channel means
            nothing.
        """
        rows, columns = self._level_bins(scale)
        height, width = rows.shape[1], columns.shape[1]
        parts = _parts(rows, columns)
        row_edges, column_edges = _edges(rows, parts), _edges(columns, parts)
        counts = np.diff(rows, axis=0).astype(np.float32)[0, :, None, None]
        counts = counts * np.diff(columns, axis=0).astype(np.float32)[0, None, :, None]
        level = np.empty((height, width, 4), dtype=np.float32)
        for start in range(0, height, _STRIP):
            strip = slice(start, start + _STRIP)
            total = None
            for low, high in pairwise(row_edges):
                lines = self._table.take(high[strip], axis=0).view(np.uint16)
                lines -= self._table.take(low[strip], axis=0).view(np.uint16)
                words = lines.view(np.uint64)
                for left, right in pairwise(column_edges):
                    part = words.take(right, axis=1).view(np.uint16)
                    part -= words.take(left, axis=1).view(np.uint16)
                    total = part if total is None else total + part.astype(np.uint32)
            assert total is not None  # noqa: S101 - there is at least one part
            np.divide(total.reshape(-1, width, 4), counts[strip], out=level[strip], casting="same_kind")
        return level

    @cached_property
    def _half(self) -> UInt8Array:
        even = self._image[: self.height // 2 * 2, : self.width // 2 * 2]
        half = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        # As soft as levels are, so that what is left of fine patterns does not look like faces.
        return np.asarray(cv2.blur(half, (2, 2), anchor=(0, 0)), dtype=np.uint8)

    def draft(self, scale: float) -> UInt8Array:
        """Resizes the image quickly and not exactly: for what only has to see where a face may be.

        Args:
            scale: At most 0.5; both sides of the image are at least 2 px.

        Returns:
            uint8 (floor(height * scale + 1), floor(width * scale + 1), 4); the last channel means nothing.
        """
        height, width = self.level_size(scale)
        small = cv2.resize(self._half, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2RGBA), dtype=np.uint8)

    def level_size(self, scale: float) -> tuple[int, int]:
        """Height and width of a level."""
        return int(self.height * scale + 1), int(self.width * scale + 1)

    def windows(self, scale: float, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> FloatArray:
        """Cuts windows out of a level without making the whole of it.

        Args:
            scale: Of the level; one whose bins are small enough for their sums to fit into 16 bits.
            rows: int64 (n, h), for every window the level's rows that it shows.
            columns: int64 (n, w).

        Returns:
            float32 (n, h, w, 4), exactly those pixels of `level`.
        """
        row_bins, column_bins = self._level_bins(scale)
        assert _parts(row_bins, column_bins) == 1  # noqa: S101 - the caller asks for fine levels only
        heights, widths = np.diff(row_bins, axis=0)[0], np.diff(column_bins, axis=0)[0]
        words, stride = self._table.reshape(-1), self.width + 1
        (top, bottom), (left, right) = row_bins * stride, column_bins
        cut = np.empty((*rows.shape, columns.shape[1], 4), dtype=np.float32)
        for start in range(0, len(rows), _STRIP):
            row, column = rows[start : start + _STRIP], columns[start : start + _STRIP]
            high, low = bottom[row][:, :, None], top[row][:, :, None]
            far, near = right[column][:, None, :], left[column][:, None, :]
            total = _sums(words, low, high, near, far)
            counts = heights[row].astype(np.float32)[:, :, None] * widths[column].astype(np.float32)[:, None, :]
            part = cut[start : start + _STRIP]
            np.divide(total.reshape(part.shape), counts[..., None], out=part, casting="same_kind")
        return cut

    def _level_bins(self, scale: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        height, width = self.level_size(scale)
        origin = np.zeros(1, np.int64)
        rows = _bins(origin, np.array([self.height]), height)[:, 0]
        return rows, _bins(origin, np.array([self.width]), width)[:, 0]

    def resize(self, boxes: npt.NDArray[np.int64], size: int) -> FloatArray:
        """Resizes rectangles to squares; what lies outside the image is black.

        Args:
            boxes: int64 (n, 4): x_min, y_min, x_max, y_max, half-open, at least 1 px each way.
            size: Side of the result, pixels.

        Returns:
            float32 (n, size, size, 4), values 0-255; the last channel means nothing.
        """
        resized = np.empty((len(boxes), size, size, 4), dtype=np.float32)
        # By size, so that few boxes share a strip with one that is so large that its bins need parts.
        order = np.argsort((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable")
        for start in range(0, len(boxes), _STRIP):
            strip = order[start : start + _STRIP]
            resized[strip] = self._resize(boxes[strip], size)
        return resized

    def _resize(self, boxes: npt.NDArray[np.int64], size: int) -> FloatArray:
        rows, columns = (_bins(boxes[:, axis], boxes[:, axis + 2], size) for axis in (1, 0))
        counts = (rows[1] - rows[0])[:, :, None] * (columns[1] - columns[0])[:, None, :]
        parts = _parts(rows, columns)
        words, stride = self._table.reshape(-1), self.width + 1
        row_edges = [np.clip(edge, 0, self.height)[:, :, None] * stride for edge in _edges(rows, parts)]
        column_edges = [np.clip(edge, 0, self.width)[:, None, :] for edge in _edges(columns, parts)]
        total = None
        for top, bottom in pairwise(row_edges):
            for left, right in pairwise(column_edges):
                part = _sums(words, top, bottom, left, right)
                total = part if total is None else total + part.astype(np.uint32)
        assert total is not None  # noqa: S101 - there is at least one part
        resized = np.empty((len(boxes), size, size, 4), dtype=np.float32)
        total = total.reshape(resized.shape)
        np.divide(total, counts[..., None].astype(np.float32), out=resized, casting="same_kind")
        return resized


def _sums(
    words: npt.NDArray[np.uint64],
    top: npt.NDArray[np.int64],
    bottom: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint16]:
    """The four sums of every rectangle, from its corners in the table: top and bottom as starts of rows."""
    total = words.take(bottom + right).view(np.uint16)
    total -= words.take(bottom + left).view(np.uint16)
    total -= words.take(top + right).view(np.uint16)
    total += words.take(top + left).view(np.uint16)
    return total


def _bins(low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Splits each range [low, high) into `size` bins: starts and ends, int64 (2, n, size)."""
    steps = np.arange(size, dtype=np.int64)
    length = (high - low)[:, None]
    start = low[:, None] + steps * length // size
    end = low[:, None] - (-(steps + 1) * length // size)  # the ceiling
    return np.stack([start, end])


def _parts(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> int:
    """Into how many parts the bins are to be split each way, so that sums of all parts fit into 16 bits."""
    height, width = (int((bins[1] - bins[0]).max(initial=1)) for bins in (rows, columns))
    parts = 1
    while -(-height // parts) * -(-width // parts) > _LARGEST_SUM:
        parts += 1
    return parts


def _edges(bins: npt.NDArray[np.int64], parts: int) -> list[npt.NDArray[np.int64]]:
    """The `parts` + 1 edges that split every bin evenly."""
    return [bins[0] + (bins[1] - bins[0]) * part // parts for part in range(parts + 1)]
