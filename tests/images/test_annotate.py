from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.images.annotate import Annotation, annotate, place_labels

GRAY = np.full((400, 1000, 3), 128, dtype=np.uint8)


def _intersection(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def test_no_annotations_return_an_unchanged_copy() -> None:
    drawn = annotate(GRAY, [])
    assert np.array_equal(drawn, GRAY)
    assert not np.shares_memory(drawn, GRAY)


def test_box_is_drawn_on_a_copy() -> None:
    before = GRAY.copy()
    drawn = annotate(GRAY, [Annotation((200, 100, 300, 200))])
    changed = np.argwhere((drawn != GRAY).any(axis=2))
    assert changed.min(axis=0).tolist() == [100, 200]
    assert changed.max(axis=0).tolist() == [200, 300]
    assert np.array_equal(drawn[120:180, 220:280], GRAY[120:180, 220:280])
    assert np.array_equal(GRAY, before)


def test_lines_are_written_below_the_box() -> None:
    bare = annotate(GRAY, [Annotation((200, 100, 300, 200))])
    labeled = annotate(GRAY, [Annotation((200, 100, 300, 200), ("female 97 %",))])
    changed = np.argwhere((bare != labeled).any(axis=2))
    assert changed[:, 0].min() > 200


def test_small_photograph_is_enlarged_with_its_boxes() -> None:
    small = np.full((50, 100, 3), 128, dtype=np.uint8)
    drawn = annotate(small, [Annotation((20, 10, 40, 30))])
    assert drawn.shape == (500, 1000, 3)
    changed = np.argwhere((drawn != 128).any(axis=2))
    assert changed.min(axis=0).tolist() == [100, 200]


def test_boxes_beyond_or_filling_the_frame_are_drawn() -> None:
    drawn = annotate(GRAY, [Annotation((-50, -50, 60, 60), ("a",)), Annotation((0, 0, 999, 399), ("b", "c"))])
    assert drawn.shape == GRAY.shape


def test_labels_of_adjacent_faces_do_not_overlap() -> None:
    boxes = [(100.0 + 80 * i, 200.0, 150.0 + 80 * i, 260.0) for i in range(5)]
    places = place_labels(boxes, [(130.0, 80.0)] * 5, (1000, 667))
    assert all(_intersection(a, b) == 0 for a, b in combinations(places, 2))
    assert all(_intersection(place, box) == 0 for place in places for box in boxes)


@given(
    st.lists(
        st.tuples(st.floats(-50, 900), st.floats(-50, 600), st.floats(1, 400), st.floats(1, 400)),
        max_size=8,
    )
)
def test_labels_keep_their_size_and_stay_inside(faces: list[tuple[float, ...]]) -> None:
    boxes = [(x, y, x + w, y + h) for x, y, w, h in faces]
    places = place_labels(boxes, [(120.0, 60.0)] * len(boxes), (800, 500))
    assert len(places) == len(boxes)
    for left, top, right, bottom in places:
        assert (right - left, bottom - top) == pytest.approx((120.0, 60.0))
        assert left >= 0
        assert top >= 0
        assert right <= 800.001
        assert bottom <= 500.001


def test_large_photograph_is_reduced_with_its_boxes() -> None:
    drawn = annotate(GRAY, [Annotation((200, 100, 400, 200))], max_pixels=100_000)
    assert drawn.shape == (200, 500, 3)
    changed = np.argwhere((drawn != 128).any(axis=2))
    assert changed.min(axis=0).tolist() == [50, 100]
    assert changed.max(axis=0).tolist() == [100, 200]


@given(st.integers(1, 1500), st.integers(1, 300), st.integers(10_000, 10**6))
def test_any_size_is_drawn_within_the_limit(width: int, height: int, max_pixels: int) -> None:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    drawn = annotate(image, [Annotation((0, 0, width, height), ("age 31 (20-40)",))], max_pixels)
    assert drawn.shape[0] * drawn.shape[1] <= max(max_pixels, width, height)


def test_only_the_first_of_many_faces_have_labels() -> None:
    boxes = [(10.0 * i, 10.0, 10.0 * i + 8, 18.0) for i in range(90)]
    assert len(place_labels(boxes, [(30.0, 10.0)] * 3, (1000, 400))) == 3
    annotations = [Annotation(box, ("a",) if index < 3 else ()) for index, box in enumerate(boxes)]
    assert annotate(GRAY, annotations).shape == GRAY.shape
