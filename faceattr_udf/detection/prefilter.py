"""The prefilter in front of P-Net: a small network that, at half of a level's resolution, selects where P-Net runs.

P-Net spends nearly all of its time on places without a face. The prefilter sees each level at half its size, with more
of the surroundings than P-Net's 12 pixels, and scores blocks of 4 x 4 P-Net cells. It was trained so that for every
face at least one block passes from which the cascade finds the face (`faceattr_udf.training.prefilter`). P-Net then
runs on tiles of 2 x 2 blocks with at least one passing block: windows of single blocks would consist mostly of margin,
and the neighboring blocks contain cells that some faces need.
"""

from typing import Final

import numpy as np

from faceattr_udf.arrays import BoolArray
from faceattr_udf.detection.integral_image import IntegralImage
from faceattr_udf.inference.base import CPU
from faceattr_udf.inference.loading import load_network

WEIGHTS_NAME: Final = "mtcnn_screen"
BLOCK: Final = 4
"""Side of a block, in P-Net cells."""

TILE: Final = 2 * BLOCK
"""Side of a tile, in P-Net cells."""

LOGIT_THRESHOLD: Final = -0.5
"""Blocks with at least this logit pass; the training threshold, 0, missed twice as many faces."""

MIN_CELLS: Final = 25_000
"""Smallest level, in P-Net cells, that is prefiltered.

Small levels cost little, and small images have more of the faces that the cascade barely finds, of which the prefilter
misses most.
"""

_STEP: Final = 64
"""Half levels are filled up to multiples of this, pixels. OpenVINO prepares a graph anew for every shape that it has
not met, which takes many times as long as the prefilter itself."""

_GREY: Final = 127.5
"""The pixel value that the network normalizes to 0, as its own padding."""


def block_index(cell: int) -> int:
    """Returns the row (or column) of the block of a cell: output i of the prefilter covers cells 4 i - 4 to 4 i - 1.

    >>> [block_index(cell) for cell in (0, 3, 4)]
    [1, 1, 2]
    """
    return cell // BLOCK + 1


def block_grid(height: int, width: int) -> tuple[int, int]:
    """Returns the rows and columns of blocks of a half-size level, in pixels: two strides of 2, each rounded up."""
    return (height + 3) // 4, (width + 3) // 4


def pnet_cells(side: int) -> int:
    """Returns the number of P-Net cells along `side` pixels of a level; P-Net's pooling rounds up."""
    return max(0, (side - 1) // 2 - 4)


def should_prefilter(height: int, width: int) -> bool:
    """Checks whether a level, in pixels, is large enough for the prefilter to save time."""
    rows, columns = pnet_cells(height), pnet_cells(width)
    return rows * columns >= MIN_CELLS and min(rows, columns) >= TILE


class Prefilter:
    """Selects the tiles that P-Net runs on; use one instance per thread."""

    def __init__(self, threads: int = 1, device: str = CPU) -> None:
        """Loads and verifies the network.

        Raises:
            WeightsError: A weights file is missing or altered.
            EngineError: The device cannot be used.
        """
        self._network = load_network(WEIGHTS_NAME, threads=threads, device=device)

    def tiles(self, integral: IntegralImage, scale: float) -> BoolArray:
        """Selects the tiles of the level at `scale` that may show a face.

        Returns:
            bool (rows, columns); tile (i, j) has the cells 8 i - 4 to 8 i + 3 by 8 j - 4 to 8 j + 3, as far as they
            exist. The offset comes from the network's stride of 4 half-level pixels relative to P-Net's cell centers.
        """
        level = integral.coarse_level(scale / 2.0)
        height, width = level.shape[:2]
        pixels = np.full((1, *(-(-side // _STEP) * _STEP for side in (height, width)), 4), _GREY, dtype=np.float32)
        pixels[0, :height, :width] = level
        (logits,) = self._network(pixels)
        rows, columns = block_grid(height, width)
        return tiles_from_blocks(logits[0, :rows, :columns] >= LOGIT_THRESHOLD)


def tiles_from_blocks(blocks: BoolArray) -> BoolArray:
    """Selects the tiles with at least one passing block.

    >>> tiles_from_blocks(np.array([[True, False, False], [False, False, False], [False, False, True]]))
    array([[ True, False],
           [False,  True]])
    """
    rows, columns = blocks.shape
    padded = np.zeros((rows + rows % 2, columns + columns % 2), dtype=np.bool_)
    padded[:rows, :columns] = blocks
    return padded[::2, ::2] | padded[1::2, ::2] | padded[::2, 1::2] | padded[1::2, 1::2]
