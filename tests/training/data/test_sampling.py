import itertools

import numpy as np
import pytest
from face_sets import NO_AGE, labeled_faces
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.datasets.labeled_faces import UNLABELED
from faceattr_udf.training.data.sampling import face_weights, label_masks, mixup_partners, pk_sampler, weighted_batches

YEARS = (30.0, 30.0)


def test_face_weights_are_equal_by_default() -> None:
    faces = labeled_faces(["a", "a", "b"], [YEARS, (5.0, 5.0), YEARS], gender=[0, 1, 1])
    assert face_weights(faces, {}, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_face_weights_follow_the_source_weights() -> None:
    faces = labeled_faces(["a", "a", "b", "b"], [YEARS] * 4)
    weights = face_weights(faces, {"a": 3.0}, 0.5)
    assert weights[:2].sum() == pytest.approx(3 * weights[2:].sum())
    assert weights.mean() == pytest.approx(1.0)


def test_exponent_one_weights_all_cells_equally() -> None:
    faces = labeled_faces(["a"] * 4, [YEARS] * 4, gender=[0, 0, 0, 1])
    weights = face_weights(faces, {}, 1.0)
    assert weights[:3].sum() == pytest.approx(weights[3])


@pytest.mark.parametrize(
    ("ages", "same_cell"),
    [
        ([(30.0, 30.0), (39.0, 39.0)], True),
        ([(30.0, 30.0), (40.0, 40.0)], False),
        ([(20.0, 27.0), (24.0, 24.0)], True),  # the middle of a range counts
        ([(20.0, 36.0), (24.0, 24.0)], True),
        ([(20.0, 44.0), (24.0, 24.0)], False),
        ([(70.0, 70.0), (100.0, 100.0)], True),  # one group from seventy on
        ([(60.0, 60.0), (70.0, 70.0)], False),
        ([(0.0, 5.0), NO_AGE], False),
        ([(10.0, 10.0), NO_AGE], False),
        ([NO_AGE, NO_AGE], True),
    ],
)
def test_ages_are_balanced_by_decade(ages: list[tuple[float, float]], same_cell: bool) -> None:
    # Three faces of one cell and a fourth, whose weight is three times as high in a cell of its own.
    faces = labeled_faces(["a"] * 4, [ages[0]] * 3 + [ages[1]])
    weights = face_weights(faces, {}, 1.0)
    assert weights[3] / weights[0] == pytest.approx(1.0 if same_cell else 3.0)


def test_weight_of_a_rare_face_is_capped() -> None:
    faces = labeled_faces(["a"] * 1001, [YEARS] * 1001, gender=[0] * 1000 + [1])
    weights = face_weights(faces, {}, 1.0)
    assert weights[-1] == pytest.approx(5.0 * weights[0] * 1.0, rel=5.0)
    assert weights[-1] < 10


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=50), st.integers(1, 8), st.integers(0, 3))
def test_faces_are_seen_as_often_as_their_weight(weights: list[float], size: int, seed: int) -> None:
    weights[0] = 1.0
    batches = weighted_batches(np.array(weights), size, seed)
    epochs = 40
    seen = np.concatenate(list(itertools.islice(batches, int(np.ceil(epochs * sum(weights) / size)))))
    counts = np.bincount(seen, minlength=len(weights))
    assert len(seen) % size == 0
    assert counts[np.array(weights) == 0.0].sum() == 0
    # An epoch rounds the weight down or up, so that the mean over many epochs is close to it.
    assert np.abs(counts / epochs - weights).max() < 1.0


def test_equal_seeds_draw_equal_batches() -> None:
    one, same, other = (list(itertools.islice(weighted_batches(np.ones(20), 4, seed), 7)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_pk_sampler_groups_faces_by_person() -> None:
    identity = np.array([7, 7, 7, 8, 8, 9, UNLABELED, UNLABELED, UNLABELED, UNLABELED])
    batches = pk_sampler(weighted_batches(np.ones(10), 8, 0), identity, people=2, faces_per_person=2, seed=0)
    for index in itertools.islice(batches, 10):
        assert len(index) == 8
        first, second = identity[index[:2]], identity[index[2:4]]
        assert first[0] == first[1]
        assert second[0] == second[1]
        assert {first[0], second[0]} == {7, 8}  # person 9 has only one face
        assert len(set(index[:4])) == 4


def test_pk_sampler_without_people_keeps_the_faces() -> None:
    identity = np.full(10, UNLABELED)
    (index,) = itertools.islice(pk_sampler(weighted_batches(np.ones(10), 10, 0), identity, 2, 2, 0), 1)
    assert sorted(index) == list(range(10))


def test_label_masks_differ_by_labeled_attributes() -> None:
    faces = labeled_faces(["a"] * 5, [YEARS, (5.0, 9.0), NO_AGE, NO_AGE, YEARS], gender=[0, 1, 1, UNLABELED, UNLABELED])
    masks = label_masks(faces, {}).tolist()
    assert masks[0] == masks[1]
    assert len(set(masks)) == 4


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 100))
def test_mixup_partners_have_equal_label_masks(masks: list[int], seed: int) -> None:
    values = np.array(masks, dtype=np.int64)
    order = mixup_partners(values, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(masks)))
    assert np.array_equal(values[order], values)


def test_mixup_partners_are_random() -> None:
    orders = {tuple(mixup_partners(np.zeros(6, np.int64), np.random.default_rng(seed))) for seed in range(9)}
    assert len(orders) > 1
