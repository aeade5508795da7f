"""Small groups stay hidden, and no hidden cell follows from what is shown."""

from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.report.small_groups import hidden_cells

COUNTS = st.lists(st.integers(0, 60), max_size=12)


@given(COUNTS, st.integers(1, 40))
def test_shown_cells_are_large_and_hidden_ones_cannot_be_told(counts: list[int], least: int) -> None:
    hidden = hidden_cells(counts, least)
    shown = [count for index, count in enumerate(counts) if index not in hidden]
    assert all(count == 0 or count >= least for count in shown)
    if hidden and any(shown):
        assert len(hidden) >= 2
        assert sum(counts[index] for index in hidden) >= least


@given(COUNTS)
def test_minimum_of_one_hides_nothing(counts: list[int]) -> None:
    assert hidden_cells(counts, 1) == set()
