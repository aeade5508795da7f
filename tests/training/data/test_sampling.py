import itertools

import numpy as np
import pytest
from face_sets import NO_AGE, labelled_faces
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.datasets.labelled_faces import UNLABELLED
from faceattr_udf.training.data.sampling import batches, face_weights, label_kinds, partners, with_people

YEARS = (30.0, 30.0)


def test_without_balance_and_sources_all_faces_count_alike() -> None:
    faces = labelled_faces(["a", "a", "b"], [YEARS, (5.0, 5.0), YEARS], gender=[0, 1, 1])
    assert face_weights(faces, {}, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_sources_count_as_asked() -> None:
    faces = labelled_faces(["a", "a", "b", "b"], [YEARS] * 4)
    weights = face_weights(faces, {"a": 3.0}, 0.5)
    assert weights[:2].sum() == pytest.approx(3 * weights[2:].sum())
    assert weights.mean() == pytest.approx(1.0)


def test_full_balance_sees_every_cell_of_a_source_equally_often() -> None:
    faces = labelled_faces(["a"] * 4, [YEARS] * 4, gender=[0, 0, 0, 1])
    weights = face_weights(faces, {}, 1.0)
    assert weights[:3].sum() == pytest.approx(weights[3])


@pytest.mark.parametrize(
    ("ages", "together"),
    [
        ([(30.0, 30.0), (39.0, 39.0)], True),
        ([(30.0, 30.0), (40.0, 40.0)], False),
        ([(20.0, 27.0), (24.0, 24.0)], True),  # a range is where its middle is
        ([(20.0, 36.0), (24.0, 24.0)], True),
        ([(20.0, 44.0), (24.0, 24.0)], False),
        ([(70.0, 70.0), (100.0, 100.0)], True),  # beyond seventy there are few
        ([(60.0, 60.0), (70.0, 70.0)], False),
        ([(0.0, 5.0), NO_AGE], False),
        ([(10.0, 10.0), NO_AGE], False),
        ([NO_AGE, NO_AGE], True),
    ],
)
def test_ages_are_balanced_by_tens_of_years(ages: list[tuple[float, float]], together: bool) -> None:
    # Three faces of one kind and one more: it counts three times as much where it is of another kind.
    faces = labelled_faces(["a"] * 4, [ages[0]] * 3 + [ages[1]])
    weights = face_weights(faces, {}, 1.0)
    assert weights[3] / weights[0] == pytest.approx(1.0 if together else 3.0)


def test_a_rare_face_is_not_seen_without_end() -> None:
    faces = labelled_faces(["a"] * 1001, [YEARS] * 1001, gender=[0] * 1000 + [1])
    weights = face_weights(faces, {}, 1.0)
    assert weights[-1] == pytest.approx(5.0 * weights[0] * 1.0, rel=5.0)
    assert weights[-1] < 10


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=50), st.integers(1, 8), st.integers(0, 3))
def test_every_pass_sees_a_face_as_often_as_it_weighs(weights: list[float], size: int, seed: int) -> None:
    weights[0] = 1.0
    drawn = batches(np.array(weights), size, seed)
    rounds = 40
    seen = np.concatenate(list(itertools.islice(drawn, int(np.ceil(rounds * sum(weights) / size)))))
    counts = np.bincount(seen, minlength=len(weights))
    assert len(seen) % size == 0
    assert counts[np.array(weights) == 0.0].sum() == 0
    # Within a pass it is the weight rounded down or up, so that many passes are close to the weight.
    assert np.abs(counts / rounds - weights).max() < 1.0


def test_equal_seeds_draw_equal_batches() -> None:
    one, same, other = (list(itertools.islice(batches(np.ones(20), 4, seed), 7)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_batches_begin_with_several_faces_of_the_same_people() -> None:
    identity = np.array([7, 7, 7, 8, 8, 9, UNLABELLED, UNLABELLED, UNLABELLED, UNLABELLED])
    drawn = with_people(batches(np.ones(10), 8, 0), identity, people=2, each=2, seed=0)
    for index in itertools.islice(drawn, 10):
        assert len(index) == 8
        first, second = identity[index[:2]], identity[index[2:4]]
        assert first[0] == first[1]
        assert second[0] == second[1]
        assert {first[0], second[0]} == {7, 8}  # there is one face of 9
        assert len(set(index[:4])) == 4


def test_without_people_batches_stay_what_they_are() -> None:
    identity = np.full(10, UNLABELLED)
    (index,) = itertools.islice(with_people(batches(np.ones(10), 10, 0), identity, 2, 2, 0), 1)
    assert sorted(index) == list(range(10))


def test_faces_are_of_a_kind_when_they_are_labelled_for_the_same_attributes() -> None:
    faces = labelled_faces(
        ["a"] * 5, [YEARS, (5.0, 9.0), NO_AGE, NO_AGE, YEARS], gender=[0, 1, 1, UNLABELLED, UNLABELLED]
    )
    kinds = label_kinds(faces).tolist()
    assert kinds[0] == kinds[1]
    assert len(set(kinds)) == 4


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 100))
def test_every_face_is_mixed_into_one_of_its_kind(kinds: list[int], seed: int) -> None:
    values = np.array(kinds, dtype=np.int64)
    order = partners(values, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(kinds)))
    assert np.array_equal(values[order], values)


def test_who_is_mixed_with_whom_is_drawn() -> None:
    orders = {tuple(partners(np.zeros(6, np.int64), np.random.default_rng(seed))) for seed in range(9)}
    assert len(orders) > 1
