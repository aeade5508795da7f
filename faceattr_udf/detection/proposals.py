"""P-Net's proposals: every level of the pyramid, or only where the screen sees that there may be a face."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import boxes as box_ops
from faceattr_udf.detection.boxes import FloatArray, IntArray
from faceattr_udf.detection.prefilter import BLOCK, TILE, BoolArray, Screen, is_screened, pnet_cells
from faceattr_udf.detection.pyramid import PNET_CELL, SummedAreas, pyramid_scales
from faceattr_udf.inference.base import CPU, Network
from faceattr_udf.inference.loading import load_network

_STRIDE: Final = 2
_WINDOW: Final = (TILE - 1) * _STRIDE + PNET_CELL
_OVERLAP_IN_LEVEL: Final = 0.5
_OVERLAP: Final = 0.7
# Share of tiles beyond which the whole level is cheaper than windows, which overlap.
_MOST_TILES: Final = 0.25
# A level this coarse has bins that do not fit into the table's 16 bits; it is small, and P-Net sees the whole of it.
_COARSEST: Final = 0.08


@dataclass(slots=True, eq=False)
class Candidates:
    """Boxes on their way through the cascade, as parallel arrays.

    Attributes:
        boxes: float32 (n, 4), pixels.
        scores: float32 (n,), the last network's probability.
        images: int64 (n,), the image each belongs to.
    """

    boxes: FloatArray
    scores: FloatArray
    images: IntArray

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "Candidates":
        """Those at an index or mask."""
        return Candidates(self.boxes[index], self.scores[index], self.images[index])


class Proposer:
    """Runs P-Net over pyramids; one instance per thread."""

    def __init__(self, config: DetectorConfig, threads: int = 1, device: str = CPU) -> None:
        """Loads and verifies P-Net, and the screen where the configuration asks for it."""
        self._config = config
        self._pnet = load_network("mtcnn_pnet", threads=threads, device=device)
        self._screen = Screen(threads, device) if config.screen else None
        self._least = _log_odds(config.thresholds[0])

    def propose(self, tables: Sequence[SummedAreas]) -> Candidates:
        """Returns square boxes that may be faces, the likeliest of each neighbourhood."""
        config = self._config
        found: list[tuple[FloatArray, FloatArray, FloatArray, IntArray]] = []
        for index, table in enumerate(tables):
            for scale in pyramid_scales(table.height, table.width, config.min_face_size, config.scale_factor):
                rows, columns, cells = self.cells(table, scale)
                if len(rows) == 0:
                    continue
                boxes = self.boxes(rows, columns, scale)
                scores = np.asarray(1.0 / (1.0 + np.exp(-cells[:, 0])), dtype=np.float32)
                kept = box_ops.suppress(boxes, scores, np.zeros(len(rows), dtype=np.int64), _OVERLAP_IN_LEVEL)
                images = np.full(len(kept), index, dtype=np.int64)
                found.append((boxes[kept], scores[kept], cells[kept, 1:], images))
        if not found:
            empty = np.zeros((0, 4), dtype=np.float32)
            return Candidates(empty, empty[:, 0], np.zeros(0, dtype=np.int64))
        boxes, scores, offsets, owners = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = box_ops.suppress(boxes, scores, owners, _OVERLAP)
        boxes = box_ops.square(box_ops.regress(boxes[kept], offsets[kept], inclusive=False))
        return Candidates(boxes, scores[kept], owners[kept])

    @staticmethod
    def boxes(rows: IntArray, columns: IntArray, scale: float) -> FloatArray:
        """What cells of a level look at: float32 (n, 4), pixels of the image."""
        corners = np.stack([columns, rows], axis=1).astype(np.float32) * _STRIDE
        ends = (np.floor((corners + past) / np.float32(scale)) for past in (1, PNET_CELL))
        return np.concatenate(list(ends), axis=1)

    def cells(self, table: SummedAreas, scale: float) -> tuple[IntArray, IntArray, FloatArray]:
        """P-Net's cells of a level that pass its threshold: rows, columns, and (n, 5) log-odds and regression."""
        if self._screen and is_screened(*table.level_size(scale)) and scale >= _COARSEST:
            tiles = self._screen.tiles(table, scale)
            if tiles.mean() <= _MOST_TILES:
                rows, columns, cells = cells_of_tiles(self._pnet, table, scale, tiles)
                passed = cells[:, 0] >= self._least
                return rows[passed], columns[passed], cells[passed]
        (level,) = self._pnet(table.level(scale)[None])
        rows, columns = np.nonzero(level[0, :, :, 0] >= self._least)
        return rows, columns, level[0, rows, columns]


def cells_of_tiles(
    pnet: Network, table: SummedAreas, scale: float, tiles: BoolArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Runs P-Net on tiles of a level, with the same numbers as on the whole level.

    Args:
        pnet: P-Net.
        table: The image.
        scale: Of the level.
        tiles: bool (rows, columns), as `Screen.tiles` gives them.

    Returns:
        Row and column, int64 (n,), and float32 (n, 5) of every cell of these tiles, row by row.
    """
    sides = table.level_size(scale)
    counts = [pnet_cells(side) for side in sides]
    chosen = np.stack(np.nonzero(tiles), axis=1)
    starts = chosen * TILE - BLOCK  # the first tile begins before the level
    chosen = starts[((starts + TILE > 0) & (starts < counts)).all(axis=1)]
    first = np.clip(chosen, 0, np.array(counts) - TILE)
    # Where a level has an odd side its last cell looks at one pixel less, like every cell of a window that ends there.
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
            (cells,) = pnet(table.windows(scale, rows, columns))
            steps = np.arange(TILE)
            row = np.broadcast_to((first[which, :1] + steps)[:, :, None], cells.shape[:3])
            column = np.broadcast_to((first[which, 1:] + steps)[:, None, :], cells.shape[:3])
            # A window at the border was moved inside and shows cells of its neighbours, too.
            inside = (row >= chosen[which, 0][:, None, None]) & (column >= chosen[which, 1][:, None, None])
            inside &= (row < chosen[which, 0][:, None, None] + TILE) & (column < chosen[which, 1][:, None, None] + TILE)
            found.append((row[inside], column[inside], cells[inside]))
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros((0, 5), dtype=np.float32)
    rows, columns, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # In the order of a whole level, on which the suppression of equal scores depends.
    order = np.lexsort((columns, rows))
    return rows[order], columns[order], values[order]


def _log_odds(probability: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability))
