"""P-Net where the screen sends it: the same cells as on the whole level."""

import numpy as np
import pytest
from PIL import Image
from shared_data import needs_shared, photographs

from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import proposals
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.detection.proposals import Proposer, cells_of_blocks
from faceattr_udf.detection.pyramid import SummedAreas
from faceattr_udf.detection.screen import BLOCK, pnet_cells
from faceattr_udf.runtime import Graph


@pytest.fixture(scope="module")
def pnet() -> Graph:
    return Graph("mtcnn_pnet", threads=2)


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", range(10, 40))
def test_pnet_has_as_many_cells_as_it_says(pnet: Graph, side: int) -> None:
    (cells,) = pnet(np.zeros((1, side, 30, 4), np.float32))
    assert cells.shape[1] == pnet_cells(side)


@pytest.mark.parametrize("height", [64, 65, 66, 67, 68, 69, 70, 71])
@pytest.mark.parametrize("width", [80, 81, 83, 86])
def test_all_blocks_together_are_the_whole_level(pnet: Graph, height: int, width: int) -> None:
    table = SummedAreas(_noise(height, width))
    (whole,) = pnet(table.level(0.9)[None])
    rows, columns, cells = cells_of_blocks(pnet, table, 0.9, np.ones((40, 40), dtype=bool))
    assert np.array_equal(rows * whole.shape[2] + columns, np.arange(whole.shape[1] * whole.shape[2]))
    np.testing.assert_allclose(cells, whole[0].reshape(-1, 5), atol=1e-4)


def test_a_block_has_its_own_cells_and_no_others(pnet: Graph) -> None:
    table = SummedAreas(_noise(120, 100))
    blocks = np.zeros((14, 12), dtype=bool)
    blocks[3, 5] = True
    rows, columns, _ = cells_of_blocks(pnet, table, 1.0, blocks)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 11, 16, 19)
    assert len(rows) == BLOCK * BLOCK


def test_no_blocks_have_no_cells(pnet: Graph) -> None:
    rows, columns, cells = cells_of_blocks(pnet, SummedAreas(_noise(60, 60)), 1.0, np.zeros((8, 8), dtype=bool))
    assert (len(rows), len(columns), cells.shape) == (0, 0, (0, 5))


@needs_shared
def test_blocks_that_all_pass_give_the_candidates_of_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(photographs()[0]) as image:
        pixels = np.asarray(image.convert("RGB"))
    monkeypatch.setattr(proposals, "_MOST_BLOCKS", 1.0)
    screened, plain = Proposer(DetectorConfig(screen=True)), Proposer(DetectorConfig())
    assert screened._screen is not None
    monkeypatch.setattr(screened._screen, "blocks", lambda *_: np.ones((400, 400), dtype=bool))
    table = SummedAreas(pixels)
    ours, theirs = screened.propose([table]), plain.propose([table])
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.01)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


@pytest.mark.parametrize("shape", [(20, 6000), (6000, 20), (24, 4000), (200, 300)])
def test_pictures_of_any_shape(shape: tuple[int, int]) -> None:
    (found,) = Detector(DetectorConfig(screen=True)).detect([_noise(*shape)])
    assert len(found.boxes) == len(found.confidences)
