"""The parts of the protection: which cells are sensitive, how catalogs merge, and the audit against all tables."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceattr_udf.publishing.audit import narrow_cells
from faceattr_udf.publishing.release import UNKNOWN, Row, release
from faceattr_udf.publishing.suppress import few_people, suppressed
from faceattr_udf.publishing.table import ALL, OTHER, Table, table_of

K = 10
LABELS = ("a", "b", "c")


def table(*rows: tuple[int, ...]) -> Table:
    people = {f"catalog{n}": dict(zip("abc", row, strict=False)) for n, row in enumerate(rows)}
    found = table_of(people, LABELS[: len(rows[0])], K)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("row", "few"),
    [
        ((20, 30, 10), (False, False, False)),
        ((20, 30, 9), (False, False, True)),
        ((12, 17, 0), (False, False, True)),  # a small catalog: who has no label is nearly known, too
        ((12, 18, 0), (False, False, False)),
        ((200, 9, 0), (True, True, False)),  # all but nine have one label
        ((200, 0, 0), (True, False, False)),
    ],
)
def test_sensitive_cells(row: tuple[int, ...], few: tuple[bool, ...]) -> None:
    assert few_people(table(row), K).tolist() == [list(few)]


def test_small_catalogs_become_one_or_are_left_out() -> None:
    large = {"a": 50, "b": 50}
    merged = table_of({"x": {"a": 12}, "large": large, "y": {"b": 11}}, ("a", "b"), K)
    assert merged is not None
    assert merged.catalogs == ("large", OTHER, ALL)
    assert merged.people.tolist() == [[50, 50], [12, 11], [62, 61]]
    alone = table_of({"x": {"a": 19}, "large": large}, ("a", "b"), K)
    assert alone is not None
    assert (alone.catalogs, alone.people.tolist()) == (("large",), [[50, 50]])
    assert table_of({"x": {"a": 19}}, ("a", "b"), K) is None


@settings(max_examples=60)
@given(st.data())
def test_the_audit_equals_a_search_of_all_tables(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(1, 2), (1, 3), (2, 2), (2, 3)]))
    numbers = st.lists(st.integers(0, 6), min_size=shape[1], max_size=shape[1])
    people = np.array(data.draw(st.lists(numbers, min_size=shape[0], max_size=shape[0])))
    if shape[0] > 1:
        people = np.vstack([people, people.sum(axis=0)])
    hidden = np.array(data.draw(st.lists(st.booleans(), min_size=people.size, max_size=people.size)))
    hidden = hidden.reshape(people.shape)
    one = Table(tuple(map(str, range(len(people)))), LABELS[: shape[1]], people)
    possible = []
    inner = people[: shape[0]]
    per_row = [
        [row for row in itertools.product(range(total + 1), repeat=shape[1]) if sum(row) == total]
        for total in inner.sum(axis=1)
    ]
    for chosen in itertools.product(*per_row):
        full = np.array(chosen)
        full = np.vstack([full, full.sum(axis=0)]) if shape[0] > 1 else full
        if np.array_equal(full[~hidden], people[~hidden]):
            possible.append(full)
    reach = data.draw(st.integers(1, 8))
    apart = np.max(possible, axis=0) - np.min(possible, axis=0)
    assert np.array_equal(narrow_cells(one, hidden, reach), hidden & (apart < reach))


@given(st.lists(st.lists(st.integers(0, 60), min_size=3, max_size=3), min_size=1, max_size=5), st.integers(0, 99))
def test_suppression_ends_and_keeps_what_is_sensitive(people: list[list[int]], seed: int) -> None:
    counts = {f"catalog{n}": dict(zip(LABELS, row, strict=True)) for n, row in enumerate(people)}
    found = table_of(counts, LABELS, K)
    if found is not None:
        hidden = suppressed(found, K, np.random.default_rng(seed))
        assert not (few_people(found, K) & ~hidden).any()
        assert not narrow_cells(found, hidden, 2 * K).any()


def test_rows_of_a_period() -> None:
    people = {"gender": {"shoes": {"female": 60, "male": 40, UNKNOWN: 20}}}
    found = release(people, {"gender": ("female", "male")}, K, {})
    assert found == [
        Row("shoes", ALL, ALL, 120, 1.0),
        Row("shoes", "gender", "female", 60, 0.5),
        Row("shoes", "gender", "male", 40, 0.333),
        Row("shoes", "gender", UNKNOWN, 20, 0.167),
    ]
    assert release({"gender": {"shoes": {"female": 19}}}, {"gender": ("female", "male")}, K, {}) == []
