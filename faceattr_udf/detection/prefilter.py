"""The screen in front of P-Net: a small network at half of a level's resolution says where P-Net is to look.

P-Net spends nearly all of its time on places where there is no face. The screen sees each level at half its size, with
more of the surroundings than P-Net's 12 pixels, and answers for blocks of 4 x 4 of its cells. It was trained so that
of every face at least one block passes from which the cascade finds it (`faceattr_udf.training.prefilter`). P-Net looks at
tiles of 2 x 2 blocks, of which one passes: for so small a window most of the pixels are its margin, and the neighbours
that come along have the cells that some faces need.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from faceattr_udf.detection.pyramid import SummedAreas
from faceattr_udf.inference.base import CPU
from faceattr_udf.inference.loading import load_network

NAME: Final = "mtcnn_screen"
BLOCK: Final = 4
"""Side of a block, in cells of P-Net."""

TILE: Final = 2 * BLOCK
"""Side of a tile, in cells of P-Net."""

LEAST_LOGIT: Final = -0.5
"""Below 0, which the network was trained to decide at, because that lost twice as many faces."""

LEAST_CELLS: Final = 25_000
"""Cells of P-Net in a level from which on it is screened: small levels cost little, and small pictures have more of the
faces that the cascade barely finds, of which the screen loses most."""

BoolArray = npt.NDArray[np.bool_]


def block_of(cell: int) -> int:
    """The row, or column, of the block of a cell: output i of the screen is centred on cells 4 i - 4 to 4 i - 1.

    >>> [block_of(cell) for cell in (0, 3, 4)]
    [1, 1, 2]
    """
    return cell // BLOCK + 1


def block_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of blocks of a half level of that many pixels: twice a stride of 2, rounded up."""
    return (height + 3) // 4, (width + 3) // 4


def pnet_cells(side: int) -> int:
    """How many cells P-Net has along a level of that many pixels: its pooling rounds up."""
    return max(0, (side - 1) // 2 - 4)


def is_screened(height: int, width: int) -> bool:
    """Whether a level of that many pixels is worth a look of the screen first."""
    rows, columns = pnet_cells(height), pnet_cells(width)
    return rows * columns >= LEAST_CELLS and min(rows, columns) >= TILE


class Screen:
    """Chooses blocks; one instance per thread."""

    def __init__(self, threads: int = 1, device: str = CPU) -> None:
        """Loads and verifies the network.

        Raises:
            WeightsError: A weights file is missing or altered.
            EngineError: The device cannot be used.
        """
        self._network = load_network(NAME, threads=threads, device=device)

    def tiles(self, table: SummedAreas, scale: float) -> BoolArray:
        """Which tiles of the level at `scale` may show a face.

        Returns:
            bool (rows, columns); tile (i, j) has the cells 8 i - 4 to 8 i + 3 by 8 j - 4 to 8 j + 3, as far as there
            are such: the network's stride of 4 pixels of the half level, seen from the centres of P-Net's cells.
        """
        (logits,) = self._network(table.draft(scale / 2.0)[None].astype(np.float32))
        return tiles_of(logits[0] >= LEAST_LOGIT)


def tiles_of(blocks: BoolArray) -> BoolArray:
    """The tiles of which at least one block passes.

    >>> tiles_of(np.array([[True, False, False], [False, False, False], [False, False, True]]))
    array([[ True, False],
           [False,  True]])
    """
    rows, columns = blocks.shape
    whole = np.zeros((rows + rows % 2, columns + columns % 2), dtype=np.bool_)
    whole[:rows, :columns] = blocks
    return whole[::2, ::2] | whole[1::2, ::2] | whole[::2, 1::2] | whole[1::2, 1::2]
