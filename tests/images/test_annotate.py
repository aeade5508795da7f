from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.images.annotate import Annotation, annotate, place_labels

GREY = np.full((400, 1000, 3), 128, dtype=np.uint8)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def test_nothing_to_draw_leaves_the_photograph_as_it_is() -> None:
    drawn = annotate(GREY, [])
    assert np.array_equal(drawn, GREY)
    assert not np.shares_memory(drawn, GREY)


def test_a_box_is_drawn_where_it_is_and_the_photograph_given_is_not_touched() -> None:
    before = GREY.copy()
    drawn = annotate(GREY, [Annotation((200, 100, 300, 200))])
    changed = np.argwhere((drawn != GREY).any(axis=2))
    assert changed.min(axis=0).tolist() == [100, 200]
    assert changed.max(axis=0).tolist() == [200, 300]
    assert np.array_equal(drawn[120:180, 220:280], GREY[120:180, 220:280])
    assert np.array_equal(GREY, before)


def test_lines_are_written_beside_the_box() -> None:
    bare = annotate(GREY, [Annotation((200, 100, 300, 200))])
    labelled = annotate(GREY, [Annotation((200, 100, 300, 200), ("female 97 %",))])
    changed = np.argwhere((bare != labelled).any(axis=2))
    assert changed[:, 0].min() > 200


def test_a_small_photograph_is_enlarged_and_its_boxes_with_it() -> None:
    small = np.full((50, 100, 3), 128, dtype=np.uint8)
    drawn = annotate(small, [Annotation((20, 10, 40, 30))])
    assert drawn.shape == (500, 1000, 3)
    changed = np.argwhere((drawn != 128).any(axis=2))
    assert changed.min(axis=0).tolist() == [100, 200]


def test_a_face_over_the_frame_and_one_as_large_as_the_photograph_are_drawn() -> None:
    drawn = annotate(GREY, [Annotation((-50, -50, 60, 60), ("a",)), Annotation((0, 0, 999, 399), ("b", "c"))])
    assert drawn.shape == GREY.shape


def test_labels_of_a_row_of_faces_cover_neither_each_other_nor_a_face() -> None:
    boxes = [(100.0 + 80 * i, 200.0, 150.0 + 80 * i, 260.0) for i in range(5)]
    places = place_labels(boxes, [(130.0, 80.0)] * 5, (1000, 667))
    assert all(_overlap(a, b) == 0 for a, b in combinations(places, 2))
    assert all(_overlap(place, box) == 0 for place in places for box in boxes)


@given(
    st.lists(
        st.tuples(st.floats(-50, 900), st.floats(-50, 600), st.floats(1, 400), st.floats(1, 400)),
        max_size=8,
    )
)
def test_every_label_keeps_its_size_and_stays_inside_the_picture(faces: list[tuple[float, ...]]) -> None:
    boxes = [(x, y, x + w, y + h) for x, y, w, h in faces]
    places = place_labels(boxes, [(120.0, 60.0)] * len(boxes), (800, 500))
    assert len(places) == len(boxes)
    for left, top, right, bottom in places:
        assert (right - left, bottom - top) == pytest.approx((120.0, 60.0))
        assert left >= 0
        assert top >= 0
        assert right <= 800.001
        assert bottom <= 500.001
