"""P-Net's proposals, from every pyramid level, or only from the tiles that the prefilter selects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from faceattr_udf.arrays import BoolArray, Float32Array, Int64Array
from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import boxes as box_ops
from faceattr_udf.detection.integral_image import IntegralImage
from faceattr_udf.detection.prefilter import BLOCK, TILE, Prefilter, pnet_cells, should_prefilter
from faceattr_udf.detection.pyramid import PNET_CELL, pyramid_scales
from faceattr_udf.inference.base import CPU, Network
from faceattr_udf.inference.loading import load_network

_STRIDE: Final = 2
_WINDOW: Final = (TILE - 1) * _STRIDE + PNET_CELL
"""Side of the pixel window that one tile needs."""

_LEVEL_NMS_IOU: Final = 0.5
"""NMS threshold within one pyramid level, from the reference implementation."""

_NMS_IOU: Final = 0.7
"""NMS threshold across all levels of an image, from the reference implementation."""

_MAX_TILE_FRACTION: Final = 0.25
"""With a larger fraction of selected tiles P-Net runs on the whole level: tile windows overlap and would cost more."""

_MIN_PREFILTER_SCALE: Final = 0.08
"""Below this scale bins are too large for the 16-bit sums of `IntegralImage.windows`; such levels are small anyway."""


@dataclass(slots=True, eq=False)
class Candidates:
    """Boxes between two stages of the cascade, as parallel arrays.

    Attributes:
        boxes: float32 (n, 4), pixels.
        scores: float32 (n,), the last network's probability.
        images: int64 (n,), index of the image that each box belongs to.
    """

    boxes: Float32Array
    scores: Float32Array
    images: Int64Array

    def take(self, index: Int64Array | BoolArray) -> "Candidates":
        """Returns the candidates at an index or mask."""
        return Candidates(self.boxes[index], self.scores[index], self.images[index])


class Proposer:
    """Runs P-Net over image pyramids; use one instance per thread."""

    def __init__(self, config: DetectorConfig, threads: int = 1, device: str = CPU) -> None:
        """Loads and verifies P-Net, and the prefilter if the configuration enables it."""
        self._config = config
        self._pnet = load_network("mtcnn_pnet", threads=threads, device=device)
        self._prefilter = Prefilter(threads, device) if config.prefilter else None
        self._min_logit = _logit(config.thresholds[0])

    def propose(self, integrals: Sequence[IntegralImage]) -> Candidates:
        """Returns square boxes that may be faces, after NMS."""
        config = self._config
        found: list[tuple[Float32Array, Float32Array, Float32Array, Int64Array]] = []
        for index, integral in enumerate(integrals):
            for scale in pyramid_scales(integral.height, integral.width, config.min_face_size, config.scale_factor):
                rows, columns, cells = self.passing_cells(integral, scale)
                if len(rows) == 0:
                    continue
                boxes = self.cell_boxes(rows, columns, scale)
                scores = np.asarray(1.0 / (1.0 + np.exp(-cells[:, 0])), dtype=np.float32)
                kept = box_ops.batched_nms(boxes, scores, np.zeros(len(rows), dtype=np.int64), _LEVEL_NMS_IOU)
                images = np.full(len(kept), index, dtype=np.int64)
                found.append((boxes[kept], scores[kept], cells[kept, 1:], images))
        if not found:
            empty = np.zeros((0, 4), dtype=np.float32)
            return Candidates(empty, empty[:, 0], np.zeros(0, dtype=np.int64))
        boxes, scores, deltas, images = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = box_ops.batched_nms(boxes, scores, images, _NMS_IOU)
        boxes = box_ops.to_square(box_ops.apply_box_deltas(boxes[kept], deltas[kept], inclusive=False))
        return Candidates(boxes, scores[kept], images[kept])

    @staticmethod
    def cell_boxes(rows: Int64Array, columns: Int64Array, scale: float) -> Float32Array:
        """Maps P-Net cells of a level to boxes in image pixels, float32 (n, 4)."""
        corners = np.stack([columns, rows], axis=1).astype(np.float32) * _STRIDE
        ends = (np.floor((corners + offset) / np.float32(scale)) for offset in (1, PNET_CELL))
        return np.concatenate(list(ends), axis=1)

    def passing_cells(self, integral: IntegralImage, scale: float) -> tuple[Int64Array, Int64Array, Float32Array]:
        """Returns the P-Net cells of a level above the threshold.

        Returns:
            Rows and columns, int64 (n,), and float32 (n, 5): logit and four box deltas.
        """
        if self._prefilter and should_prefilter(*integral.level_size(scale)) and scale >= _MIN_PREFILTER_SCALE:
            tiles = self._prefilter.tiles(integral, scale)
            if tiles.mean() <= _MAX_TILE_FRACTION:
                rows, columns, cells = score_tiles(self._pnet, integral, scale, tiles)
                passed = cells[:, 0] >= self._min_logit
                return rows[passed], columns[passed], cells[passed]
        (level,) = self._pnet(integral.level(scale)[None])
        rows, columns = np.nonzero(level[0, :, :, 0] >= self._min_logit)
        return rows, columns, level[0, rows, columns]


def score_tiles(
    pnet: Network, integral: IntegralImage, scale: float, tiles: BoolArray
) -> tuple[Int64Array, Int64Array, Float32Array]:
    """Runs P-Net on tiles of a level, with the same results as on the whole level.

    Args:
        pnet: P-Net.
        integral: The image.
        scale: The level's scale.
        tiles: bool (rows, columns), as returned by `Prefilter.tiles`.

    Returns:
        Row and column, int64 (n,), and float32 (n, 5) of every cell of these tiles, in row-major order.
    """
    sides = integral.level_size(scale)
    counts = [pnet_cells(side) for side in sides]
    chosen = np.stack(np.nonzero(tiles), axis=1)
    starts = chosen * TILE - BLOCK  # the first tile begins before the level
    chosen = starts[((starts + TILE > 0) & (starts < counts)).all(axis=1)]
    first = np.clip(chosen, 0, np.array(counts) - TILE)
    # On a level with an odd side the last cell sees one pixel less, as does every cell of a window that ends there.
    short = first * _STRIDE + _WINDOW > np.array(sides)
    found = []
    for low in (False, True):
        for narrow in (False, True):
            which = np.flatnonzero((short == (low, narrow)).all(axis=1))
            if len(which) == 0:
                continue
            corner = first[which] * _STRIDE
            rows = corner[:, :1] + np.arange(_WINDOW - low)
            columns = corner[:, 1:] + np.arange(_WINDOW - narrow)
            (cells,) = pnet(integral.windows(scale, rows, columns))
            steps = np.arange(TILE)
            row = np.broadcast_to((first[which, :1] + steps)[:, :, None], cells.shape[:3])
            column = np.broadcast_to((first[which, 1:] + steps)[:, None, :], cells.shape[:3])
            # A window at the border was moved inside, so it also contains cells of its neighbors.
            inside = (row >= chosen[which, 0][:, None, None]) & (column >= chosen[which, 1][:, None, None])
            inside &= (row < chosen[which, 0][:, None, None] + TILE) & (column < chosen[which, 1][:, None, None] + TILE)
            found.append((row[inside], column[inside], cells[inside]))
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros((0, 5), dtype=np.float32)
    rows, columns, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # Restores the order of a whole level, because NMS breaks ties between equal scores by order.
    order = np.lexsort((columns, rows))
    return rows[order], columns[order], values[order]


def _logit(probability: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability))
