import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from faceattr_udf.detection.integral_image import IntegralImage
from faceattr_udf.detection.pyramid import pyramid_scales


def _image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    return interpolate(tensor, size=size, mode="area")[0].permute(1, 2, 0).numpy()


def test_image_smaller_than_min_face_has_no_levels() -> None:
    assert pyramid_scales(1, 1, 20, 0.709) == []
    assert pyramid_scales(19, 400, 20, 0.709) == []
    assert pyramid_scales(20, 400, 20, 0.709) == [0.6]


@given(height=st.integers(1, 90), width=st.integers(1, 90), scale=st.floats(0.05, 1.0))
def test_level_matches_torch_area_interpolation(height: int, width: int, scale: float) -> None:
    image = _image(height, width)
    level = IntegralImage(image).level(scale)
    assert level.dtype == np.float32
    np.testing.assert_allclose(
        level[..., :3], _area(image, (int(height * scale + 1), int(width * scale + 1))), atol=1e-3
    )


@given(data=st.data())
def test_crop_and_resize_matches_torch_area_interpolation(data: st.DataObject) -> None:
    image = _image(60, 80)
    x, y = data.draw(st.integers(0, 79)), data.draw(st.integers(0, 59))
    x_end, y_end = data.draw(st.integers(x + 1, 80)), data.draw(st.integers(y + 1, 60))
    resized = IntegralImage(image).crop_and_resize(np.array([[x, y, x_end, y_end]]), 24)
    np.testing.assert_allclose(resized[0, ..., :3], _area(image[y:y_end, x:x_end], (24, 24)), atol=1e-3)


def test_pixels_outside_the_frame_are_black() -> None:
    white = np.full((10, 10, 3), 255, np.uint8)
    resized = IntegralImage(white).crop_and_resize(np.array([[-10, 0, 10, 10]]), 2)[0, :, :, 0]
    assert resized.tolist() == [[0, 255], [0, 255]]


def test_sums_beyond_32_bits_are_exact() -> None:
    # 17 million white pixels: their sum does not fit into 32 bits.
    image = np.full((4200, 4200, 3), 255, np.uint8)
    assert IntegralImage(image).crop_and_resize(np.array([[4000, 4000, 4200, 4200]]), 4)[..., :3].min() == 255.0


@pytest.mark.parametrize("scale", [0.2, 1 / 15, 1 / 17, 1 / 40])
def test_bins_of_any_size_are_averaged_exactly(scale: float) -> None:
    # White is the worst case: sums over more than 257 white pixels exceed 16 bits.
    white = np.full((900, 1100, 3), 255, np.uint8)
    integral = IntegralImage(white)
    assert (integral.level(scale)[..., :3] == 255.0).all()
    boxes = np.array([[0, 0, 30, 900], [5, 7, 20, 22], [0, 0, 1100, 900], [100, 100, 500, 500]])
    assert (integral.crop_and_resize(boxes, 24)[..., :3] == 255.0).all()


def test_crop_and_resize_keeps_the_order_of_boxes() -> None:
    image = _image(600, 700)
    boxes = np.array([[0, 0, 600, 600], [10, 10, 30, 30], [50, 60, 450, 460], [3, 4, 15, 16]] * 10)
    together = IntegralImage(image).crop_and_resize(boxes, 24)
    for box, resized in zip(boxes, together, strict=True):
        np.testing.assert_array_equal(resized, IntegralImage(image).crop_and_resize(box[None], 24)[0])


@pytest.mark.parametrize("size", [24, 48])
def test_no_boxes_give_an_empty_batch(size: int) -> None:
    assert IntegralImage(_image(30, 30)).crop_and_resize(np.zeros((0, 4), np.int64), size).shape == (0, size, size, 4)
