import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.images.crop import crop_face


def _gradient(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows % 256, columns % 256, np.full_like(rows, 200)], axis=2).astype(np.uint8)


def test_one_pixel_image_fills_the_crop() -> None:
    assert (crop_face(np.full((1, 1, 3), 9, np.uint8), (0, 0, 1, 1), 8, 0.0) == 9).all()


def test_crop_at_original_size_equals_the_image() -> None:
    image = _gradient(40, 40)
    assert (crop_face(image, (0, 0, 40, 40), 40, 0.0) == image).all()


def test_margin_is_relative_to_the_longer_side() -> None:
    image = _gradient(100, 100)
    crop = crop_face(image, (40, 30, 60, 70), 60, 0.5)
    assert (crop == image[20:80, 20:80]).all()


def test_pixels_outside_the_frame_are_black() -> None:
    crop = crop_face(np.full((20, 20, 3), 255, np.uint8), (0, 0, 20, 20), 40, 1.0)
    assert crop[:10].max() == 0
    assert crop[10:30, 10:30].min() == 255
    assert crop[:, 30:].max() == 0


@pytest.mark.parametrize("size", [12, 40])  # shrunk and enlarged
@pytest.mark.parametrize(("left", "top", "edge"), [(0, 5, "left"), (10, 5, "right"), (5, 0, "top"), (5, 10, "bottom")])
def test_only_the_side_beyond_the_frame_is_black(left: int, top: int, edge: str, size: int) -> None:
    # The crop is twice as wide as the box: 20 px, of which 5 are beyond that edge.
    crop = crop_face(np.full((20, 20, 3), 255, np.uint8), (left, top, left + 10, top + 10), size, 1.0)
    quarter = size // 4
    expected = np.full((size, size, 3), 255)
    beyond = {
        "left": np.s_[:, :quarter],
        "right": np.s_[:, -quarter:],
        "top": np.s_[:quarter],
        "bottom": np.s_[-quarter:],
    }
    expected[beyond[edge]] = 0
    assert (crop == expected).all()


def test_only_the_visible_part_of_a_box_counts() -> None:
    image = _gradient(50, 50)
    assert (crop_face(image, (-30, -40, 50, 50), 32, 0.2) == crop_face(image, (0, 0, 50, 50), 32, 0.2)).all()


@given(box=st.tuples(*[st.floats(-300, 300)] * 4), size=st.integers(1, 64), margin=st.floats(0, 2))
def test_any_box_gives_a_crop(box: tuple[float, float, float, float], size: int, margin: float) -> None:
    crop = crop_face(_gradient(30, 40), box, size, margin)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_shrinking_averages_pixels(factor: int) -> None:
    side = 16 * factor
    checks = ((np.indices((side, side)).sum(axis=0) % 2) * 254).astype(np.uint8)
    crop = crop_face(np.repeat(checks[..., None], 3, axis=2), (0, 0, side, side), 16, 0.0)
    assert np.abs(crop.astype(int) - 127).max() <= 20 if factor % 2 else np.abs(crop.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.8])
def test_enlarging_starts_at_the_subpixel_position(offset: float) -> None:
    # On a ramp of 8 per pixel, a crop that starts a quarter of a pixel later is brighter by 2 everywhere.
    ramp = np.repeat((np.arange(30) * 8).astype(np.uint8)[None, :, None], 30, axis=0).repeat(3, axis=2)
    crop = crop_face(ramp, (10 + offset, 10, 18 + offset, 18), 32, 0.0).astype(float)
    expected = 8 * (10 + offset + (np.arange(32) + 0.5) / 4 - 0.5)
    assert np.abs(crop[16, :, 0] - expected).max() <= 1.0


@pytest.mark.parametrize(("height", "width"), [(2, 40_000), (40_000, 2)])
def test_image_too_large_for_opencv_warp_is_cropped(height: int, width: int) -> None:
    image = np.full((height, width, 3), 70, np.uint8)
    box = (width - 2, height - 2, width, height)
    assert (crop_face(image, box, 8, 0.0) == 70).all()


@given(side=st.integers(4, 60), left=st.floats(5, 20), top=st.floats(5, 20), size=st.sampled_from([16, 32]))
def test_crop_shows_the_same_region_at_any_scale(side: int, left: float, top: float, size: int) -> None:
    rows, columns = np.mgrid[0:100, 0:100]
    image = np.stack([2 * rows, 2 * columns, rows + columns], axis=2).astype(np.uint8)
    crop = crop_face(image, (left, top, left + side, top + side), size, 0.0)
    middle = crop.reshape(-1, 3).mean(axis=0)
    # Shrinking starts at whole pixels, which differ by two gray levels.
    assert middle[0] == pytest.approx(2 * (top + side / 2 - 0.5), abs=2.5)
    assert middle[1] == pytest.approx(2 * (left + side / 2 - 0.5), abs=2.5)
