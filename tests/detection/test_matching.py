import numpy as np

from faceattr_udf.detection.matching import count_matches

BOXES = np.array([[0, 0, 100, 100], [50, 50, 150, 150], [300, 0, 340, 40]], dtype=np.float32)


def test_empty_sets_match() -> None:
    assert count_matches([], []) == (0, 0)
    assert count_matches([BOXES[:0]], [BOXES[:0]]) == (0, 0)
    assert count_matches([BOXES], [BOXES[:0]]) == (0, 3)


def test_box_order_does_not_matter() -> None:
    assert count_matches([BOXES], [BOXES[::-1]]) == (3, 3)


def test_each_box_is_matched_once() -> None:
    twice = np.concatenate([BOXES[:1], BOXES[:1]])
    assert count_matches([twice], [BOXES[:1]]) == (1, 2)


def test_box_shifted_by_a_tenth_does_not_match() -> None:
    shifted = BOXES[:1] + np.array([10, 0, 10, 0], dtype=np.float32)
    assert count_matches([BOXES[:1]], [shifted]) == (0, 1)


def test_counts_are_summed_over_images() -> None:
    assert count_matches([BOXES, BOXES[:1]], [BOXES[:2], BOXES]) == (3, 6)
