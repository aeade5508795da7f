import numpy as np
import pytest

from faceattr_udf.training.data.augment import augment, center_window, source_margin

SIDE = 128


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)


def test_no_crops_give_no_views() -> None:
    assert augment(np.zeros((0, SIDE, SIDE, 3), np.uint8), 112, np.random.default_rng(0)).shape == (0, 112, 112, 3)


@pytest.mark.parametrize("size", [64, 112])
def test_views_have_the_size_asked_for_and_stay_pixels(size: int, crops: np.ndarray) -> None:
    views = augment(crops, size, np.random.default_rng(0))
    assert views.shape == (8, size, size, 3)
    assert views.dtype == np.uint8


def test_a_seed_gives_the_same_views_and_another_gives_others(crops: np.ndarray) -> None:
    one, same, other = (augment(crops, 112, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_without_strength_a_view_is_the_window_or_its_mirror_image(crops: np.ndarray) -> None:
    views = augment(crops, 112, np.random.default_rng(0), strength=0.0).astype(int)
    window = center_window(crops, 112).astype(int)
    mirrored = [not np.abs(view - plain).max() <= 1 for view, plain in zip(views, window, strict=True)]
    assert 0 < sum(mirrored) < len(crops)
    for view, plain, turned in zip(views, window, mirrored, strict=True):
        assert np.abs(view - (plain[:, ::-1] if turned else plain)).max() <= 1


def test_the_given_crops_are_not_changed(crops: np.ndarray) -> None:
    before = crops.copy()
    augment(crops, 112, np.random.default_rng(0))
    assert (crops == before).all()


def test_a_view_shows_the_middle_of_the_crop() -> None:
    # A bright square in the middle of the crop stays near the middle of every view, at the zoom of the window.
    crop = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    crop[:, 44:84, 44:84] = 255
    views = np.concatenate([augment(crop, 112, np.random.default_rng(seed)) for seed in range(40)]).astype(float)
    mean = views.mean(axis=(0, 3))
    rows, columns = np.mgrid[0:112, 0:112]
    assert (mean * rows).sum() / mean.sum() == pytest.approx(55.5, abs=3)
    assert (mean * columns).sum() / mean.sum() == pytest.approx(55.5, abs=3)
    assert mean[50:62, 50:62].mean() > 4 * mean[:20].mean()


def test_grey_and_dark_views_occur(crops: np.ndarray) -> None:
    views = augment(np.repeat(crops, 20, axis=0), 112, np.random.default_rng(0)).astype(int)
    grey = (np.abs(views - views[..., :1]).max(axis=(1, 2, 3)) <= 2).mean()
    assert 0.15 < grey < 0.4
    brightness = views.mean(axis=(1, 2, 3))
    assert brightness.min() < 90
    assert brightness.max() > 160


def test_the_window_of_production_is_the_middle() -> None:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    image = np.stack([rows, columns, rows], axis=2)[None].astype(np.uint8)
    window = center_window(image, 112)
    assert window.shape == (1, 112, 112, 3)
    assert window[0, 0, 0, :2].tolist() == [8, 8]
    assert window[0, -1, -1, :2].tolist() == [119, 119]
    assert center_window(image, 56).shape == (1, 56, 56, 3)


def test_the_margin_of_training_cuts_leaves_an_eighth_around_the_window() -> None:
    assert (1.0 + source_margin(0.2)) * 112 == pytest.approx(1.2 * 128)
