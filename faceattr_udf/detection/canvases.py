"""Pyramid levels of many images on canvases of one size, so that P-Net always runs on the same shape.

A graph is prepared anew for every shape that it has not met, which takes longer than a level's inference, and a
catalogue brings new sizes for ever. P-Net has no padding: what it says of a cell depends only on the 12 pixels around
it, so levels may touch each other, and the cells that see two of them are passed over. The last cells of a level with
an odd side see one pixel less; the fourth channel says so, see `faceattr_udf.inference.wrappers.FoldedPnet`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from faceattr_udf.arrays import Float32Array, Int64Array
from faceattr_udf.detection.prefilter import pnet_cells
from faceattr_udf.detection.pyramid import PNET_CELL

STRIDE: Final = 2
"""Pixels from one P-Net cell to the next."""

SIDE: Final = 256
"""Side of a canvas, pixels; with 192 to 320 P-Net takes the least time per pixel."""

SHAPE: Final = (1, SIDE, SIDE, 4)
"""Shape of P-Net's input, (n, h, w, channels)."""

OUTSIDE: Final = 3
"""The channel that is 1 for pixels outside a level and 0 for others."""

_MAX_CELLS: Final = (SIDE - PNET_CELL) // STRIDE + 1
"""Cells along the side of a canvas."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A level, or a part of a large one, and its place on a canvas.

    Attributes:
        level: Index of the level.
        row: First P-Net row of the part.
        column: First P-Net column.
        rows: Number of P-Net rows.
        columns: Number of P-Net columns.
    """

    level: int
    row: int
    column: int
    rows: int
    columns: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels: even, so that the next patch is aligned with the cells."""
        return _pixels(self.rows), _pixels(self.columns)


@dataclass(frozen=True, slots=True)
class Placed:
    """A patch on a canvas.

    Attributes:
        patch: The patch.
        top: Its first row on the canvas, pixels; even.
        left: Its first column; even.
    """

    patch: Patch
    top: int
    left: int


def _pixels(cells: int) -> int:
    return (cells - 1) * STRIDE + PNET_CELL


def split(level: int, height: int, width: int) -> list[Patch]:
    """Splits a level into patches that fit on a canvas.

    Args:
        level: Its index.
        height: Pixels.
        width: Pixels.

    >>> [(patch.column, patch.columns) for patch in split(0, 100, 400)]
    [(0, 97), (97, 98)]
    """
    rows, columns = _parts(pnet_cells(height)), _parts(pnet_cells(width))
    return [Patch(level, row, column, n_rows, n_columns) for row, n_rows in rows for column, n_columns in columns]


def _parts(cells: int) -> list[tuple[int, int]]:
    """Returns the first cell and the number of cells of parts of about the same size."""
    number = -(-cells // _MAX_CELLS)
    edges = [cells * part // number for part in range(number + 1)] if number else []
    return [(first, last - first) for first, last in pairwise(edges)]


def place(patches: Sequence[Patch]) -> list[list[Placed]]:
    """Places patches on canvases: on shelves, by decreasing height.

    The parts of large levels come first, level by level, so that few of these are in memory at the same time.

    Returns:
        The patches of each canvas.
    """
    parts = Counter(patch.level for patch in patches)
    last = max(parts, default=0) + 1

    def order(patch: Patch) -> tuple[int, int, int]:
        height, width = patch.size
        return (patch.level if parts[patch.level] > 1 else last, -height, -width)

    canvases: list[list[Placed]] = []
    shelves: list[list[int]] = []  # canvas, top, height, used width
    tops: list[int] = []  # of each canvas, where the next shelf begins
    for patch in sorted(patches, key=order):
        height, width = patch.size
        # The lowest shelf that is high enough wastes least.
        fitting = [shelf for shelf in shelves if height <= shelf[2] and shelf[3] + width <= SIDE]
        if fitting:
            shelf = min(fitting, key=lambda shelf: shelf[2])
        else:
            canvas = next((index for index, top in enumerate(tops) if top + height <= SIDE), len(tops))
            if canvas == len(tops):
                tops.append(0)
                canvases.append([])
            shelf = [canvas, tops[canvas], height, 0]
            shelves.append(shelf)
            tops[canvas] += height
        canvases[shelf[0]].append(Placed(patch, shelf[1], shelf[3]))
        shelf[3] += width
    return canvases


def passing_cells(
    sizes: Sequence[tuple[int, int]],
    pixels: Callable[[int], Float32Array],
    pnet: Callable[[Float32Array], Float32Array],
    min_logit: float,
) -> tuple[Int64Array, Int64Array, Int64Array, Float32Array]:
    """Runs P-Net on levels.

    Args:
        sizes: Height and width of each level, pixels.
        pixels: Returns a level's pixels, float32 (height, width, 4), the last channel 0.
        pnet: Returns the cells of a canvas, float32 (rows, columns, 5): logit and four box deltas.
        min_logit: Cells with at least this logit pass.

    Returns:
        Level, row and column of the cells that pass, int64 (n,), in this order; and float32 (n, 5).
    """
    found: list[tuple[Int64Array, Int64Array, Int64Array, Float32Array]] = []
    patches = [patch for level, (height, width) in enumerate(sizes) for patch in split(level, height, width)]
    levels: dict[int, Float32Array] = {}
    left = np.bincount([patch.level for patch in patches], minlength=len(sizes))
    canvas = np.zeros(SHAPE[1:], dtype=np.float32)
    owners = np.empty((_MAX_CELLS, _MAX_CELLS), dtype=np.int64)
    for some in place(patches):
        owners[:] = -1
        canvas[..., OUTSIDE] = 1.0
        offsets = np.empty((len(some), 3), dtype=np.int64)
        for number, placed in enumerate(some):
            patch = placed.patch
            if patch.level not in levels:
                levels[patch.level] = pixels(patch.level)
            _draw(canvas, placed, levels[patch.level])
            left[patch.level] -= 1
            if left[patch.level] == 0:
                del levels[patch.level]
            row, column = placed.top // STRIDE, placed.left // STRIDE
            owners[row : row + patch.rows, column : column + patch.columns] = number
            offsets[number] = patch.level, patch.row - row, patch.column - column
        cells = pnet(canvas)
        rows, columns = np.nonzero((cells[..., 0] >= min_logit) & (owners >= 0))
        of_cell = offsets[owners[rows, columns]]
        found.append((of_cell[:, 0], rows + of_cell[:, 1], columns + of_cell[:, 2], cells[rows, columns]))
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none, np.zeros((0, 5), dtype=np.float32)
    level, rows, columns, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # As if level by level, because NMS breaks ties between equal scores by order.
    order = np.lexsort((columns, rows, level))
    return level[order], rows[order], columns[order], values[order]


def _draw(canvas: Float32Array, placed: Placed, level: Float32Array) -> None:
    """Copies a patch; beyond the odd side of a level the canvas stays outside."""
    patch, (height, width) = placed.patch, placed.patch.size
    part = level[patch.row * STRIDE :, patch.column * STRIDE :][:height, :width]
    canvas[placed.top : placed.top + len(part), placed.left : placed.left + part.shape[1]] = part
