"""What graphs are shown of faces."""

import numpy as np
import pytest
import torch

from faceattr_udf.attributes.preprocess import EMOTION_SIZE, GREY, views
from faceattr_udf.weights import load_record

SIZE = 160
PLAIN, MIRRORED = load_record("attributes_separate_grey"), load_record("attributes_default")


def drawn(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def test_a_plain_record_is_shown_the_faces_themselves() -> None:
    crops = drawn(2)
    (shown,) = views(PLAIN, crops)
    assert shown is crops


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_mirrored_record_is_shown_pairs_and_small_faces(count: int) -> None:
    crops = drawn(count)
    before = crops.copy()
    pairs, small = views(MIRRORED, crops)
    assert (pairs.shape, pairs.dtype) == ((2 * count, SIZE + 1, SIZE + 1, 3), np.uint8)
    assert (small.shape, small.dtype) == ((count, EMOTION_SIZE + 1, EMOTION_SIZE + 1, 3), np.uint8)
    np.testing.assert_array_equal(pairs[0::2, :SIZE, :SIZE], crops)
    np.testing.assert_array_equal(pairs[1::2, :SIZE, :SIZE], crops[:, :, ::-1])
    np.testing.assert_array_equal(crops, before)


def test_beyond_the_edge_lies_grey() -> None:
    for shown in views(MIRRORED, drawn(2)):
        assert (shown[:, -1] == GREY).all()
        assert (shown[:, :, -1] == GREY).all()


def test_faces_are_shrunk_bilinearly() -> None:
    crops = drawn(2)
    small = views(MIRRORED, crops)[1][:, :EMOTION_SIZE, :EMOTION_SIZE]
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(crops).permute(0, 3, 1, 2).float(), size=(EMOTION_SIZE, EMOTION_SIZE), mode="bilinear"
    )
    # Half a step of rounding, and OpenCV's weights of eleven bits.
    assert np.abs(small - exact.permute(0, 2, 3, 1).numpy()).max() < 0.8
