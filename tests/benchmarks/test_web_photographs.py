"""Photographs of many sizes, cut from a few large ones."""

import io

import numpy as np
import pytest
from PIL import Image

from faceattr_udf.benchmarks.web_photographs import SIZE_CLASSES, Shape, SizeClass, cut_photographs, large_enough

SOURCES = [
    np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8) for shape in ((900, 1400, 3), (700, 500, 3))
]


@pytest.mark.parametrize("size", SIZE_CLASSES[:4], ids=lambda size: size.name)
def test_sizes_fit_the_class_and_none_comes_twice(size: SizeClass) -> None:
    taken: set[Shape] = set()
    sources = large_enough(SOURCES, size)
    photographs = cut_photographs(sources, size, 5, np.random.default_rng(1), taken)
    photographs += cut_photographs(sources, size, 5, np.random.default_rng(1), taken)
    sizes = [Image.open(io.BytesIO(photograph)).size for photograph in photographs]
    assert len(set(sizes)) == len(taken) == 10
    for width, height in sizes:
        assert min(width, height) >= 120
        assert 0.97 * size.low < width * height / 1e6 < 1.03 * size.high


def test_the_same_seed_gives_the_same_photographs() -> None:
    one, other = (cut_photographs(SOURCES, SIZE_CLASSES[0], 3, np.random.default_rng(4), set()) for _ in range(2))
    assert one == other


def test_small_photographs_are_not_enlarged_far() -> None:
    assert [len(large_enough(SOURCES, size)) for size in SIZE_CLASSES] == [2, 2, 2, 1, 0]
    assert large_enough([], SIZE_CLASSES[0]) == []
