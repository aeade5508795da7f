import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from faceattr_udf.drift.student import inside, two_sided


@given(st.floats(0, 40), st.integers(1, 120))
def test_probability_equals_scipys(t: float, dof: int) -> None:
    assert inside(t, dof) == pytest.approx(1 - 2 * stats.t.sf(t, dof), abs=1e-12)


@given(st.floats(1e-5, 0.5), st.integers(1, 120))
def test_quantile_equals_scipys(probability: float, dof: int) -> None:
    assert two_sided(probability, dof) == pytest.approx(stats.t.isf(probability / 2, dof), rel=1e-6)
