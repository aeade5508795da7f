"""P-Net's proposals, from every pyramid level, or only from the tiles that the prefilter selects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from faceattr_udf.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import boxes as box_ops
from faceattr_udf.detection import canvases
from faceattr_udf.detection.canvases import STRIDE
from faceattr_udf.detection.integral_image import IntegralImage
from faceattr_udf.detection.prefilter import BLOCK, TILE, Prefilter, pnet_cells, should_prefilter
from faceattr_udf.detection.pyramid import PNET_CELL, pyramid_scales
from faceattr_udf.inference.base import CPU, Network
from faceattr_udf.inference.loading import load_network

_WINDOW: Final = (TILE - 1) * STRIDE + PNET_CELL
"""Side of the pixel window that one tile needs."""

_WINDOWS: Final = 8
"""Windows go through P-Net in multiples of this, so that few batch sizes occur; see `canvases`."""

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
        self._pnet = load_network("mtcnn_pnet", threads=threads, device=device, shape=canvases.SHAPE)
        self._prefilter = Prefilter(threads, device) if config.prefilter else None
        self._min_logit = _logit(config.thresholds[0])

    def propose(self, integrals: Sequence[IntegralImage]) -> Candidates:
        """Returns square boxes that may be faces, after NMS."""
        config = self._config
        levels = [
            (index, scale)
            for index, image in enumerate(integrals)
            for scale in pyramid_scales(image.height, image.width, config.min_face_size, config.scale_factor)
        ]
        level, rows, columns, cells = self.passing_cells([(integrals[index], scale) for index, scale in levels])
        if len(rows) == 0:
            empty = np.zeros((0, 4), dtype=np.float32)
            return Candidates(empty, empty[:, 0], np.zeros(0, dtype=np.int64))
        owners, scales = (np.array(values)[level] for values in zip(*levels, strict=True))
        boxes = self.cell_boxes(rows, columns, scales[:, None])
        scores = np.asarray(1.0 / (1.0 + np.exp(-cells[:, 0])), dtype=np.float32)
        kept = box_ops.sorted_nms(boxes, scores, level, _LEVEL_NMS_IOU)
        boxes, scores, deltas, owners = boxes[kept], scores[kept], cells[kept, 1:], owners[kept]
        kept = box_ops.sorted_nms(boxes, scores, owners, _NMS_IOU)
        boxes = box_ops.to_square(box_ops.apply_box_deltas(boxes[kept], deltas[kept], inclusive=False))
        return Candidates(boxes, scores[kept], owners[kept])

    @staticmethod
    def cell_boxes(rows: Int64Array, columns: Int64Array, scale: float | Float64Array) -> Float32Array:
        """Maps P-Net cells to boxes in image pixels, float32 (n, 4).

        Args:
            rows: int64 (n,).
            columns: int64 (n,).
            scale: Of the level, or one for each cell, (n, 1).
        """
        corners = np.stack([columns, rows], axis=1).astype(np.float32) * STRIDE
        ends = (np.floor((corners + offset) / np.asarray(scale, dtype=np.float32)) for offset in (1, PNET_CELL))
        return np.concatenate(list(ends), axis=1)

    def passing_cells(
        self, levels: Sequence[tuple[IntegralImage, float]]
    ) -> tuple[Int64Array, Int64Array, Int64Array, Float32Array]:
        """Returns the P-Net cells above the threshold.

        Args:
            levels: Images and scales.

        Returns:
            Level, row and column, int64 (n,), in this order; and float32 (n, 5): logit and four box deltas.
        """
        found: list[tuple[Int64Array, Int64Array, Int64Array, Float32Array]] = []
        whole: list[int] = []
        for number, (integral, scale) in enumerate(levels):
            tiles = self._tiles(integral, scale)
            if tiles is None:
                whole.append(number)
                continue
            rows, columns, cells = score_tiles(self._pnet, integral, scale, tiles)
            passed = cells[:, 0] >= self._min_logit
            found.append((np.full(passed.sum(), number), rows[passed], columns[passed], cells[passed]))
        sizes = [levels[number][0].level_size(levels[number][1]) for number in whole]

        def pixels(index: int) -> Float32Array:
            integral, scale = levels[whole[index]]
            return integral.level(scale)

        def pnet(canvas: Float32Array) -> Float32Array:
            (cells,) = self._pnet(canvas[None])
            return np.asarray(cells[0])

        level, rows, columns, cells = canvases.passing_cells(sizes, pixels, pnet, self._min_logit)
        found.append((np.array(whole, dtype=np.int64)[level], rows, columns, cells))
        level, rows, columns, cells = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(level, kind="stable")
        return level[order], rows[order], columns[order], cells[order]

    def _tiles(self, integral: IntegralImage, scale: float) -> BoolArray | None:
        """Returns the tiles to run P-Net on; None for the whole level."""
        if not (self._prefilter and should_prefilter(*integral.level_size(scale)) and scale >= _MIN_PREFILTER_SCALE):
            return None
        tiles = self._prefilter.tiles(integral, scale)
        return tiles if tiles.mean() <= _MAX_TILE_FRACTION else None


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
    if len(chosen) == 0:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros((0, 5), dtype=np.float32)
    first = np.concatenate([first, np.repeat(first[-1:], -len(chosen) % _WINDOWS, axis=0)])
    rows, columns = (first[:, axis, None] * STRIDE + np.arange(_WINDOW) for axis in (0, 1))
    height, width = sides
    windows = integral.windows(scale, np.minimum(rows, height - 1), np.minimum(columns, width - 1))
    # The last window of a level with an odd side ends beyond it.
    windows[..., canvases.OUTSIDE] = (rows >= height)[:, :, None] | (columns >= width)[:, None, :]
    first, cells = first[: len(chosen)], pnet(windows)[0][: len(chosen)]
    steps = np.arange(TILE)
    rows = np.broadcast_to((first[:, :1] + steps)[:, :, None], cells.shape[:3])
    columns = np.broadcast_to((first[:, 1:] + steps)[:, None, :], cells.shape[:3])
    # A window at the border was moved inside, so it also contains cells of its neighbors.
    inside = (rows >= chosen[:, 0, None, None]) & (rows < chosen[:, 0, None, None] + TILE)
    inside &= (columns >= chosen[:, 1, None, None]) & (columns < chosen[:, 1, None, None] + TILE)
    rows, columns, values = rows[inside], columns[inside], cells[inside]
    # In the order of a whole level, because NMS breaks ties between equal scores by order.
    order = np.lexsort((columns, rows))
    return rows[order], columns[order], values[order]


def _logit(probability: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability))
