"""Levels on canvases: every cell once, no two patches on the same place, and what P-Net says of a level alone."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceattr_udf.arrays import Float32Array
from faceattr_udf.detection.canvases import OUTSIDE, SIDE, passing_cells, place, split
from faceattr_udf.detection.prefilter import pnet_cells
from faceattr_udf.inference.openvino_backend import OpenVinoModel


@pytest.fixture(scope="module")
def pnet() -> OpenVinoModel:
    return OpenVinoModel("mtcnn_pnet")


def run(pnet: OpenVinoModel, levels: Sequence[Float32Array], min_logit: float = -np.inf) -> list[Float32Array]:
    """Returns the cells of each level, (rows, columns, 5); NaN where a cell did not pass."""
    sizes = [level.shape[:2] for level in levels]
    found = passing_cells(sizes, levels.__getitem__, lambda canvas: pnet(canvas[None])[0][0], min_logit)
    cells = []
    for number, size in enumerate(sizes):
        which = found[0] == number
        values = np.full((*map(pnet_cells, size), 5), np.nan, dtype=np.float32)
        assert len(set(zip(found[1][which], found[2][which], strict=True))) == which.sum()
        values[found[1][which], found[2][which]] = found[3][which]
        cells.append(values)
    return cells


def noise(height: int, width: int) -> Float32Array:
    level = np.random.default_rng(height * width).uniform(0.0, 255.0, (height, width, 4)).astype(np.float32)
    level[..., OUTSIDE] = 0.0
    return level


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 700), st.integers(1, 700)), max_size=30))
def test_patches_hold_every_cell_once_and_do_not_overlap(sizes: list[tuple[int, int]]) -> None:
    patches = [patch for level, (height, width) in enumerate(sizes) for patch in split(level, height, width)]
    for level, (height, width) in enumerate(sizes):
        counts = np.zeros((pnet_cells(height), pnet_cells(width)), dtype=int)
        for patch in patches:
            if patch.level == level:
                counts[patch.row : patch.row + patch.rows, patch.column : patch.column + patch.columns] += 1
        assert (counts == 1).all()
    placed = place(patches)
    assert sum(map(len, placed)) == len(patches)
    for canvas in placed:
        taken = np.zeros((SIDE, SIDE), dtype=int)
        for one in canvas:
            height, width = one.patch.size
            assert one.top % 2 == one.left % 2 == 0
            assert one.top + height <= SIDE
            assert one.left + width <= SIDE
            taken[one.top : one.top + height, one.left : one.left + width] += 1
        assert taken.max() <= 1


def test_levels_give_the_cells_that_they_give_alone(pnet: OpenVinoModel) -> None:
    sizes = [(12, 12), (300, 530), (64, 80), (256, 256), (258, 12), (20, 90), (33, 41), (301, 64), (64, 517), (13, 259)]
    levels = [noise(*size) for size in sizes]
    for cells, level in zip(run(pnet, levels), levels, strict=True):
        (alone,) = pnet(level[None])
        np.testing.assert_allclose(cells, alone[0], atol=1e-4)


def test_cells_do_not_depend_on_the_other_levels(pnet: OpenVinoModel) -> None:
    random = np.random.default_rng(0)
    level = noise(61, 75)
    (alone,) = run(pnet, [level])
    for _ in range(20):
        others = [noise(*random.integers(12, 120, 2)) for _ in range(int(random.integers(1, 12)))]
        np.testing.assert_array_equal(run(pnet, [*others, level])[-1], alone)


def test_few_large_levels_are_in_memory_together() -> None:
    sizes = [(900, 1300), (640, 920), (450, 650), (320, 460), (220, 320), (160, 230), (110, 160), (80, 115), (57, 80)]
    open_levels: set[int] = set()
    most = 0
    canvases = place([patch for level, (height, width) in enumerate(sizes) for patch in split(level, height, width)])
    last = {one.patch.level: number for number, canvas in enumerate(canvases) for one in canvas}
    for number, canvas in enumerate(canvases):
        open_levels |= {one.patch.level for one in canvas}
        most = max(most, sum(sizes[level][0] * sizes[level][1] for level in open_levels))
        open_levels -= {level for level in open_levels if last[level] == number}
    assert most < 1.6 * 900 * 1300  # all levels together have twice the pixels of the first


def test_threshold_and_order(pnet: OpenVinoModel) -> None:
    levels = [noise(90, 60), noise(40, 200), noise(11, 50)]
    sizes = [level.shape[:2] for level in levels]
    low, high = (
        passing_cells(sizes, levels.__getitem__, lambda canvas: pnet(canvas[None])[0][0], threshold)
        for threshold in (-9.0, -2.0)
    )
    for found in (low, high):
        assert np.array_equal(np.lexsort((found[2], found[1], found[0])), np.arange(len(found[0])))
    assert high[3][:, 0].min() >= -2.0
    assert 0 < len(high[0]) < len(low[0])


@pytest.mark.parametrize("sizes", [[], [(10, 300)], [(5, 5), (10, 10)]])
def test_levels_below_one_cell_give_none(pnet: OpenVinoModel, sizes: list[tuple[int, int]]) -> None:
    levels = [noise(*size) for size in sizes]
    found = passing_cells(sizes, levels.__getitem__, lambda canvas: pnet(canvas[None])[0][0], -np.inf)
    assert [len(values) for values in found] == [0, 0, 0, 0]
    assert found[3].shape == (0, 5)
