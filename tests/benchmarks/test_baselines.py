import numpy as np

from faceattr_udf.benchmarks.baselines import FacenetDetector, agreement
from faceattr_udf.config import DetectorConfig

BOXES = np.array([[0, 0, 100, 100], [50, 50, 150, 150], [300, 0, 340, 40]], dtype=np.float32)


def test_no_boxes_agree_with_no_boxes() -> None:
    assert agreement(BOXES[:0], BOXES[:0]) == (0, 0)
    assert agreement(BOXES, BOXES[:0]) == (0, 3)


def test_the_order_of_boxes_does_not_matter() -> None:
    assert agreement(BOXES, BOXES[::-1]) == (3, 3)


def test_every_box_has_one_partner() -> None:
    twice = np.concatenate([BOXES[:1], BOXES[:1]])
    assert agreement(twice, BOXES[:1]) == (1, 2)


def test_a_box_that_is_shifted_by_a_tenth_is_another_box() -> None:
    shifted = BOXES[:1] + np.array([10, 0, 10, 0], dtype=np.float32)
    assert agreement(BOXES[:1], shifted) == (0, 1)


def test_operations_grow_with_the_photograph() -> None:
    peer = FacenetDetector(DetectorConfig())
    grey = np.full((120, 160, 3), 128, np.uint8)
    # P-Net: about 3.7 thousand operations per pixel of a level, and the levels have 0.72 times the photograph's pixels.
    operations = peer.operations([grey])
    assert 0.5 < operations / (3660 * 0.72 * 120 * 160) < 1.0
    assert peer.operations([grey, grey]) == 2 * operations
