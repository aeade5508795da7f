import numpy as np
import pytest
import torch

from faceattr_udf.training.augment import SOURCE_SIZE, augment, center_window


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.rand((8, 3, SOURCE_SIZE, SOURCE_SIZE), generator=torch.Generator().manual_seed(1)) * 255


def test_views_have_the_size_of_production_and_stay_pixels(crops: torch.Tensor) -> None:
    views = augment(crops, 112, torch.Generator().manual_seed(0))
    assert views.shape == (8, 3, 112, 112)
    assert views.dtype == torch.float32
    assert views.min() >= 0
    assert views.max() <= 255


def test_a_seed_gives_the_same_views_and_another_gives_others(crops: torch.Tensor) -> None:
    one, same, other = (augment(crops, 112, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_given_crops_are_not_changed(crops: torch.Tensor) -> None:
    before = crops.clone()
    augment(crops, 112, torch.Generator().manual_seed(0))
    assert torch.equal(crops, before)


def test_the_window_of_production_is_the_middle() -> None:
    rows, columns = np.mgrid[0:SOURCE_SIZE, 0:SOURCE_SIZE]
    image = torch.from_numpy(np.stack([rows, columns, rows])[None])
    window = center_window(image, 112)
    assert window.shape == (1, 3, 112, 112)
    assert window[0, :2, 0, 0].tolist() == [8, 8]
    assert window[0, :2, -1, -1].tolist() == [119, 119]
