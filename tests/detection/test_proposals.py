"""P-Net on prefiltered tiles gives the same cells as on the whole level."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import proposals
from faceattr_udf.detection.integral_image import IntegralImage
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.detection.prefilter import TILE, pnet_cells
from faceattr_udf.detection.proposals import Proposer, score_tiles
from faceattr_udf.inference.openvino_backend import OpenVinoModel


@pytest.fixture(scope="module")
def pnet() -> OpenVinoModel:
    return OpenVinoModel("mtcnn_pnet", threads=2)


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", range(10, 40))
def test_pnet_cells_matches_the_network(pnet: OpenVinoModel, side: int) -> None:
    (cells,) = pnet(np.zeros((1, side, 30, 4), np.float32))
    assert cells.shape[1] == pnet_cells(side)


@pytest.mark.parametrize("height", [64, 65, 66, 67, 68, 69, 70, 71])
@pytest.mark.parametrize("width", [80, 81, 83, 86])
def test_all_tiles_give_the_whole_level(pnet: OpenVinoModel, height: int, width: int) -> None:
    integral = IntegralImage(_noise(height, width))
    (whole,) = pnet(integral.level(0.9)[None])
    rows, columns, cells = score_tiles(pnet, integral, 0.9, np.ones((40, 40), dtype=bool))
    assert np.array_equal(rows * whole.shape[2] + columns, np.arange(whole.shape[1] * whole.shape[2]))
    np.testing.assert_allclose(cells, whole[0].reshape(-1, 5), atol=1e-4)


def test_one_tile_gives_exactly_its_cells(pnet: OpenVinoModel) -> None:
    integral = IntegralImage(_noise(120, 100))
    tiles = np.zeros((7, 6), dtype=bool)
    tiles[3, 4] = True
    rows, columns, _ = score_tiles(pnet, integral, 1.0, tiles)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 27, 28, 35)
    assert len(rows) == TILE * TILE


def test_no_tiles_give_no_cells(pnet: OpenVinoModel) -> None:
    rows, columns, cells = score_tiles(pnet, IntegralImage(_noise(60, 60)), 1.0, np.zeros((8, 8), dtype=bool))
    assert (len(rows), len(columns), cells.shape) == (0, 0, (0, 5))


def test_all_tiles_give_the_unfiltered_candidates(monkeypatch: pytest.MonkeyPatch, demo_photos: Path) -> None:
    with Image.open(demo_photos / "group" / "five_friends.jpg") as image:
        pixels = np.asarray(image.convert("RGB"))
    monkeypatch.setattr(proposals, "_MAX_TILE_FRACTION", 1.0)
    prefiltered, plain = Proposer(DetectorConfig(prefilter=True)), Proposer(DetectorConfig(prefilter=False))
    assert prefiltered._prefilter is not None
    monkeypatch.setattr(prefiltered._prefilter, "tiles", lambda *_: np.ones((400, 400), dtype=bool))
    integral = IntegralImage(pixels)
    ours, theirs = prefiltered.propose([integral]), plain.propose([integral])
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.01)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


@pytest.mark.parametrize("shape", [(20, 6000), (6000, 20), (24, 4000), (200, 300)])
def test_extreme_image_shapes_are_accepted(shape: tuple[int, int]) -> None:
    (found,) = Detector(DetectorConfig(prefilter=True)).detect([_noise(*shape)])
    assert len(found.boxes) == len(found.confidences)
