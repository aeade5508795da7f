import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from faceattr_udf.detection.pyramid import SummedAreas, pyramid_scales


def _image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    return interpolate(tensor, size=size, mode="area")[0].permute(1, 2, 0).numpy()


def test_an_image_smaller_than_a_face_has_no_levels() -> None:
    assert pyramid_scales(1, 1, 20, 0.709) == []
    assert pyramid_scales(19, 400, 20, 0.709) == []
    assert pyramid_scales(20, 400, 20, 0.709) == [0.6]


@given(height=st.integers(1, 90), width=st.integers(1, 90), scale=st.floats(0.05, 1.0))
def test_levels_are_torchs_area_interpolation(height: int, width: int, scale: float) -> None:
    image = _image(height, width)
    level = SummedAreas(image).level(scale)
    assert level.dtype == np.float32
    np.testing.assert_allclose(
        level[..., :3], _area(image, (int(height * scale + 1), int(width * scale + 1))), atol=1e-3
    )


@given(data=st.data())
def test_candidates_are_torchs_area_interpolation(data: st.DataObject) -> None:
    image = _image(60, 80)
    x, y = data.draw(st.integers(0, 79)), data.draw(st.integers(0, 59))
    x_end, y_end = data.draw(st.integers(x + 1, 80)), data.draw(st.integers(y + 1, 60))
    resized = SummedAreas(image).resize(np.array([[x, y, x_end, y_end]]), 24)
    np.testing.assert_allclose(resized[0, ..., :3], _area(image[y:y_end, x:x_end], (24, 24)), atol=1e-3)


def test_outside_the_frame_is_black() -> None:
    white = np.full((10, 10, 3), 255, np.uint8)
    resized = SummedAreas(white).resize(np.array([[-10, 0, 10, 10]]), 2)[0, :, :, 0]
    assert resized.tolist() == [[0, 255], [0, 255]]


def test_sums_beyond_32_bits_stay_exact() -> None:
    # 17 million white pixels: their sum does not fit into 32 bits.
    image = np.full((4200, 4200, 3), 255, np.uint8)
    assert SummedAreas(image).resize(np.array([[4000, 4000, 4200, 4200]]), 4)[..., :3].min() == 255.0


@pytest.mark.parametrize("scale", [0.2, 1 / 15, 1 / 17, 1 / 40])
def test_bins_of_any_size_are_averaged_exactly(scale: float) -> None:
    # White is the hardest: bins of more than 257 such pixels do not fit into the 16 bits of the table.
    white = np.full((900, 1100, 3), 255, np.uint8)
    table = SummedAreas(white)
    assert (table.level(scale)[..., :3] == 255.0).all()
    boxes = np.array([[0, 0, 30, 900], [5, 7, 20, 22], [0, 0, 1100, 900], [100, 100, 500, 500]])
    assert (table.resize(boxes, 24)[..., :3] == 255.0).all()


def test_candidates_keep_their_order_whatever_their_size() -> None:
    image = _image(600, 700)
    boxes = np.array([[0, 0, 600, 600], [10, 10, 30, 30], [50, 60, 450, 460], [3, 4, 15, 16]] * 10)
    together = SummedAreas(image).resize(boxes, 24)
    for box, resized in zip(boxes, together, strict=True):
        np.testing.assert_array_equal(resized, SummedAreas(image).resize(box[None], 24)[0])


@pytest.mark.parametrize("size", [24, 48])
def test_no_candidates_give_an_empty_batch(size: int) -> None:
    assert SummedAreas(_image(30, 30)).resize(np.zeros((0, 4), np.int64), size).shape == (0, size, size, 4)
