from itertools import pairwise
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from faceattr_udf.config import Config, DriftConfig
from faceattr_udf.drift.rule import Value, judge
from faceattr_udf.errors import ConfigError

SETTINGS = DriftConfig()
QUIET = [0.30, 0.31, 0.29, 0.30, 0.31, 0.30, 0.29]


def _nights(values: list[float], n: int = 20_000, sd: float = 0.001) -> list[Value]:
    return [Value(value, n, sd) for value in values]


def test_first_night_is_not_judged() -> None:
    verdict = judge(Value(0.3, 1000), [], 0.01, SETTINGS)
    assert (verdict.reference, verdict.change, verdict.alarm) == (None, None, False)
    assert verdict.reason == "only 0 of 7 earlier nights"


def test_seven_nights_are_needed() -> None:
    assert judge(Value(0.9, 20_000), _nights(QUIET[:6]), 0.01, SETTINGS).reason == "only 6 of 7 earlier nights"
    assert judge(Value(0.9, 20_000), _nights(QUIET), 0.01, SETTINGS).alarm


def test_few_faces_are_neither_judged_nor_compared_with() -> None:
    assert judge(Value(0.9, 199), _nights(QUIET), 0.01, SETTINGS).reason == "only 199 of 200"
    mixed = [*_nights(QUIET[:6]), Value(0.9, 199, 0.03)]
    assert judge(Value(0.9, 20_000), mixed, 0.01, SETTINGS).reference_nights == 6


def test_verdict_equals_a_calculation_by_hand() -> None:
    verdict = judge(Value(0.42, 20_000, 0.001), _nights(QUIET), 0.01, SETTINGS)
    noise = stdev(QUIET) * (1 + 1 / 7) ** 0.5
    assert verdict.change == pytest.approx(0.42 - fmean(QUIET))
    assert verdict.noise_sd == pytest.approx(noise)
    assert verdict.t == pytest.approx((0.42 - fmean(QUIET)) / noise)
    assert verdict.threshold == pytest.approx(stats.t.isf(0.0001, 6))


def test_small_change_is_no_alarm_however_sure() -> None:
    steady = _nights([0.3 + 0.00001 * night for night in range(30)], 10**7, 0.00001)
    assert not judge(Value(0.319, 10**7, 0.00001), steady, 0.01, SETTINGS).alarm
    assert judge(Value(0.321, 10**7, 0.00001), steady, 0.01, SETTINGS).alarm


def test_nights_that_agree_by_luck_do_not_make_chance_an_alarm() -> None:
    lucky = _nights([0.3] * 30, 300, 0.026)
    assert not judge(Value(0.38, 300, 0.028), lucky, 0.01, SETTINGS).alarm


def test_sampling_error_of_a_small_night_counts() -> None:
    large = _nights(QUIET * 4, 200_000, 0.001)
    assert judge(Value(0.36, 200_000, 0.001), large, 0.01, SETTINGS).alarm
    assert not judge(Value(0.36, 250, 0.03), large, 0.01, SETTINGS).alarm


def test_values_without_any_scatter_are_judged() -> None:
    assert not judge(Value(0.0, 1000), _nights([0.0] * 7, sd=0.0), 0.01, SETTINGS).alarm
    assert judge(Value(0.5, 1000), _nights([0.0] * 7, sd=0.0), 0.01, SETTINGS).alarm


@given(st.lists(st.floats(0.2, 0.4), min_size=7, max_size=20), st.floats(0, 1))
def test_larger_change_never_ends_an_alarm(before: list[float], first: float) -> None:
    mean = fmean(before)
    alarms = [judge(Value(mean + first * k, 1000, 0.01), _nights(before), 0.01, SETTINGS).alarm for k in (0, 1, 2, 3)]
    assert all(not earlier or later for earlier, later in pairwise(alarms))


def test_more_nights_at_least_than_at_most_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"drift\.max_nights = 10 is below drift\.min_nights = 20"):
        Config.load(None, ["drift.min_nights=20", "drift.max_nights=10"])
