import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.images.crop import cut_face


def _gradient(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows % 256, columns % 256, np.full_like(rows, 200)], axis=2).astype(np.uint8)


def test_one_pixel_fills_the_cut() -> None:
    assert (cut_face(np.full((1, 1, 3), 9, np.uint8), (0, 0, 1, 1), 8, 0.0) == 9).all()


def test_a_cut_of_its_own_size_is_the_image() -> None:
    image = _gradient(40, 40)
    assert (cut_face(image, (0, 0, 40, 40), 40, 0.0) == image).all()


def test_the_margin_is_of_the_longer_side_and_centred() -> None:
    image = _gradient(100, 100)
    cut = cut_face(image, (40, 30, 60, 70), 60, 0.5)
    assert (cut == image[20:80, 20:80]).all()


def test_outside_the_frame_is_black() -> None:
    cut = cut_face(np.full((20, 20, 3), 255, np.uint8), (0, 0, 20, 20), 40, 1.0)
    assert cut[:10].max() == 0
    assert cut[10:30, 10:30].min() == 255
    assert cut[:, 30:].max() == 0


@pytest.mark.parametrize("size", [12, 40])  # made smaller, and enlarged
@pytest.mark.parametrize(("left", "top", "edge"), [(0, 5, "left"), (10, 5, "right"), (5, 0, "top"), (5, 10, "bottom")])
def test_one_edge_of_the_frame_is_black_and_no_other(left: int, top: int, edge: str, size: int) -> None:
    # Cut twice as wide as the box: 20 px, of which 5 are beyond that edge.
    cut = cut_face(np.full((20, 20, 3), 255, np.uint8), (left, top, left + 10, top + 10), size, 1.0)
    quarter = size // 4
    expected = np.full((size, size, 3), 255)
    beyond = {
        "left": np.s_[:, :quarter],
        "right": np.s_[:, -quarter:],
        "top": np.s_[:quarter],
        "bottom": np.s_[-quarter:],
    }
    expected[beyond[edge]] = 0
    assert (cut == expected).all()


def test_a_box_far_outside_counts_only_with_its_visible_part() -> None:
    image = _gradient(50, 50)
    assert (cut_face(image, (-30, -40, 50, 50), 32, 0.2) == cut_face(image, (0, 0, 50, 50), 32, 0.2)).all()


@given(box=st.tuples(*[st.floats(-300, 300)] * 4), size=st.integers(1, 64), margin=st.floats(0, 2))
def test_any_box_gives_a_cut(box: tuple[float, float, float, float], size: int, margin: float) -> None:
    cut = cut_face(_gradient(30, 40), box, size, margin)
    assert cut.shape == (size, size, 3)
    assert cut.dtype == np.uint8


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_shrinking_averages_instead_of_skipping(factor: int) -> None:
    side = 16 * factor
    checks = ((np.indices((side, side)).sum(axis=0) % 2) * 254).astype(np.uint8)
    cut = cut_face(np.repeat(checks[..., None], 3, axis=2), (0, 0, side, side), 16, 0.0)
    assert np.abs(cut.astype(int) - 127).max() <= 20 if factor % 2 else np.abs(cut.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.8])
def test_enlarging_begins_wherever_the_box_does(offset: float) -> None:
    # Along a ramp of 8 per pixel a cut that begins a quarter of a pixel later is 2 brighter everywhere.
    ramp = np.repeat((np.arange(30) * 8).astype(np.uint8)[None, :, None], 30, axis=0).repeat(3, axis=2)
    cut = cut_face(ramp, (10 + offset, 10, 18 + offset, 18), 32, 0.0).astype(float)
    expected = 8 * (10 + offset + (np.arange(32) + 0.5) / 4 - 0.5)
    assert np.abs(cut[16, :, 0] - expected).max() <= 1.0


@pytest.mark.parametrize(("height", "width"), [(2, 40_000), (40_000, 2)])
def test_an_image_longer_than_opencv_warps(height: int, width: int) -> None:
    image = np.full((height, width, 3), 70, np.uint8)
    box = (width - 2, height - 2, width, height)
    assert (cut_face(image, box, 8, 0.0) == 70).all()


@given(side=st.integers(4, 60), left=st.floats(5, 20), top=st.floats(5, 20), size=st.sampled_from([16, 32]))
def test_a_cut_shows_the_same_place_at_any_scale(side: int, left: float, top: float, size: int) -> None:
    rows, columns = np.mgrid[0:100, 0:100]
    image = np.stack([2 * rows, 2 * columns, rows + columns], axis=2).astype(np.uint8)
    cut = cut_face(image, (left, top, left + side, top + side), size, 0.0)
    middle = cut.reshape(-1, 3).mean(axis=0)
    # Shrinking begins at whole pixels, two levels apart.
    assert middle[0] == pytest.approx(2 * (top + side / 2 - 0.5), abs=2.5)
    assert middle[1] == pytest.approx(2 * (left + side / 2 - 0.5), abs=2.5)
