"""Tests of the inputs that preprocessing makes from face crops."""

import numpy as np
import pytest
import torch

from faceattr_udf.attributes.preprocess import preprocess
from faceattr_udf.weights import load_record
from faceattr_udf.weights.inputs import EMOTION_SIZE, PADDING_VALUE

SIZE = 160
PLAIN, MIRRORED = load_record("attributes_separate_grey"), load_record("attributes_default")


def random_crops(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def test_plain_record_gets_the_crops_unchanged() -> None:
    crops = random_crops(2)
    (images,) = preprocess(PLAIN, crops)
    assert images is crops


@pytest.mark.parametrize("count", [0, 1, 3])
def test_mirrored_record_gets_pairs_and_small_faces(count: int) -> None:
    crops = random_crops(count)
    before = crops.copy()
    pairs, small = preprocess(MIRRORED, crops)
    assert (pairs.shape, pairs.dtype) == ((2 * count, SIZE + 1, SIZE + 1, 3), np.uint8)
    assert (small.shape, small.dtype) == ((count, EMOTION_SIZE + 1, EMOTION_SIZE + 1, 3), np.uint8)
    np.testing.assert_array_equal(pairs[0::2, :SIZE, :SIZE], crops)
    np.testing.assert_array_equal(pairs[1::2, :SIZE, :SIZE], crops[:, :, ::-1])
    np.testing.assert_array_equal(crops, before)


def test_images_are_padded_right_and_below() -> None:
    for images in preprocess(MIRRORED, random_crops(2)):
        assert (images[:, -1] == PADDING_VALUE).all()
        assert (images[:, :, -1] == PADDING_VALUE).all()


def test_small_faces_are_resized_bilinearly() -> None:
    crops = random_crops(2)
    small = preprocess(MIRRORED, crops)[1][:, :EMOTION_SIZE, :EMOTION_SIZE]
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(crops).permute(0, 3, 1, 2).float(), size=(EMOTION_SIZE, EMOTION_SIZE), mode="bilinear"
    )
    # Rounding by up to 0.5, and OpenCV's 11-bit interpolation weights.
    assert np.abs(small - exact.permute(0, 2, 3, 1).numpy()).max() < 0.8
