import numpy as np
import pytest

from faceattr_udf.training.data.augment import augment, center_crop, training_margin

SIDE = 128


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)


def test_no_crops_give_no_views() -> None:
    assert augment(np.zeros((0, SIDE, SIDE, 3), np.uint8), 112, np.random.default_rng(0)).shape == (0, 112, 112, 3)


@pytest.mark.parametrize("size", [64, 112])
def test_views_are_uint8_of_the_requested_size(size: int, crops: np.ndarray) -> None:
    views = augment(crops, size, np.random.default_rng(0))
    assert views.shape == (8, size, size, 3)
    assert views.dtype == np.uint8


def test_views_depend_only_on_the_seed(crops: np.ndarray) -> None:
    one, same, other = (augment(crops, 112, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_strength_zero_only_mirrors(crops: np.ndarray) -> None:
    views = augment(crops, 112, np.random.default_rng(0), strength=0.0).astype(int)
    expected = center_crop(crops, 112).astype(int)
    mirrored = [not np.abs(view - unmirrored).max() <= 1 for view, unmirrored in zip(views, expected, strict=True)]
    assert 0 < sum(mirrored) < len(crops)
    for view, unmirrored, is_mirrored in zip(views, expected, mirrored, strict=True):
        assert np.abs(view - (unmirrored[:, ::-1] if is_mirrored else unmirrored)).max() <= 1


def test_augment_does_not_modify_the_crops(crops: np.ndarray) -> None:
    before = crops.copy()
    augment(crops, 112, np.random.default_rng(0))
    assert (crops == before).all()


def test_views_stay_near_the_center_of_the_crop() -> None:
    # A bright square in the center of the crop stays near the center of every view.
    crop = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    crop[:, 44:84, 44:84] = 255
    views = np.concatenate([augment(crop, 112, np.random.default_rng(seed)) for seed in range(40)]).astype(float)
    mean = views.mean(axis=(0, 3))
    rows, columns = np.mgrid[0:112, 0:112]
    assert (mean * rows).sum() / mean.sum() == pytest.approx(55.5, abs=3)
    assert (mean * columns).sum() / mean.sum() == pytest.approx(55.5, abs=3)
    assert mean[50:62, 50:62].mean() > 4 * mean[:20].mean()


def test_some_views_are_gray_or_dark(crops: np.ndarray) -> None:
    views = augment(np.repeat(crops, 20, axis=0), 112, np.random.default_rng(0)).astype(int)
    gray = (np.abs(views - views[..., :1]).max(axis=(1, 2, 3)) <= 2).mean()
    assert 0.15 < gray < 0.4
    brightness = views.mean(axis=(1, 2, 3))
    assert brightness.min() < 90
    assert brightness.max() > 160


def test_center_crop_takes_the_center() -> None:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    image = np.stack([rows, columns, rows], axis=2)[None].astype(np.uint8)
    center = center_crop(image, 112)
    assert center.shape == (1, 112, 112, 3)
    assert center[0, 0, 0, :2].tolist() == [8, 8]
    assert center[0, -1, -1, :2].tolist() == [119, 119]
    assert center_crop(image, 56).shape == (1, 56, 56, 3)


def test_training_margin_scales_the_crop() -> None:
    assert (1.0 + training_margin(0.2)) * 112 == pytest.approx(1.2 * 128)
