import pytest

from faceattr_udf.benchmarks.timing import Times, time_interleaved


def test_contenders_alternate_after_a_warm_up_round() -> None:
    calls: list[str] = []
    times = time_interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, units=1)
    assert calls == ["a", "b"] * 4
    assert {name: len(values) for name, values in times.seconds.items()} == {"a": 3, "b": 3}


def test_times_are_per_unit() -> None:
    times = Times({"a": [0.2, 0.4, 0.9]}, units={"a": 2})
    assert times.milliseconds("a") == {"median": 200.0, "min": 100.0, "max": 450.0}


def test_ratio_compares_times_of_the_same_round() -> None:
    # The machine became twice as slow between the rounds; the ratio did not change.
    times = Times({"theirs": [8.0, 16.0], "ours": [4.0, 8.0]}, units={"theirs": 1, "ours": 2})
    assert times.ratio("theirs", "ours") == {"median": 4.0, "min": 4.0, "max": 4.0}


def test_ratio_of_different_round_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        Times({"theirs": [8.0], "ours": [2.0, 4.0]}, units={"theirs": 1, "ours": 1}).ratio("theirs", "ours")
