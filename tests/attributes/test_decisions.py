"""Tests of the labels and ages that are derived from probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.attributes.decisions import decide_age, decide_class
from faceattr_udf.labels import AGE_GROUPS, ATTRIBUTES, CLASSES, LABEL_CLASSES, LABELS, MAX_AGE, age_group

GENDERS = ("female", "male")
weights = st.lists(st.floats(0, 1, width=32), min_size=101, max_size=101).filter(lambda values: sum(values) > 1e-3)


def test_label_is_the_most_probable_class() -> None:
    found = decide_class(np.array([0.2, 0.8], dtype=np.float32), GENDERS, min_confidence=0.0, large_enough=True)
    assert found.label == "male"
    assert found.confidence == pytest.approx(0.8)
    assert found.probs == pytest.approx({"female": 0.2, "male": 0.8})


@pytest.mark.parametrize(
    ("min_confidence", "large_enough", "label"),
    [(0.75, True, "female"), (0.7500001, True, None), (0.0, False, None), (1.0, True, None), (1.0, False, None)],
)
def test_abstention_keeps_the_probabilities(min_confidence: float, large_enough: bool, label: str | None) -> None:
    found = decide_class(np.array([0.75, 0.25]), GENDERS, min_confidence=min_confidence, large_enough=large_enough)
    assert found.label == label
    assert found.confidence == 0.75
    assert found.probs == {"female": 0.75, "male": 0.25}


def test_missing_probability_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        decide_class(np.array([1.0]), GENDERS, min_confidence=0.0, large_enough=True)


def test_uniform_distribution_has_exact_quantiles() -> None:
    probabilities = np.zeros(101)
    probabilities[20:30] = 0.1  # ages 19.5 to 29.5
    found = decide_age(probabilities, large_enough=True)
    assert found.age == pytest.approx(24.5)
    assert found.low == pytest.approx(20.5)
    assert found.high == pytest.approx(28.5)
    assert found.group == "20-29"


@pytest.mark.parametrize("year", [0, 1, 50, 99, 100])
def test_certain_age_has_narrow_bounds(year: int) -> None:
    found = decide_age(np.eye(101, dtype=np.float32)[year], large_enough=True)
    assert found.age == year
    assert 0 <= found.low <= year <= found.high <= MAX_AGE
    assert found.high - found.low <= 0.81


def test_skewed_distribution_keeps_its_mean_inside_the_bounds() -> None:
    probabilities = np.zeros(101)
    probabilities[[0, 100]] = 0.95, 0.05
    found = decide_age(probabilities, large_enough=True)
    assert found.age == pytest.approx(5.0)
    assert found.high == found.age


@given(weights)
def test_bounds_are_ordered_and_cover_80_percent(values: list[float]) -> None:
    probabilities = np.array(values) / sum(values)
    found = decide_age(probabilities, large_enough=True)
    assert found.age is not None
    assert 0 <= found.low <= found.age <= found.high <= MAX_AGE
    assert found.age == pytest.approx(float(probabilities @ np.arange(101)))
    assert found.group == age_group(found.age)
    # Years entirely inside (low, high) count fully towards the central 80 %, the years of the bounds partly.
    years = np.arange(101)
    inside = probabilities[(years - 0.5 >= found.low) & (years + 0.5 <= found.high)].sum()
    touched = probabilities[(years + 0.5 > found.low) & (years - 0.5 < found.high)].sum()
    assert touched >= 0.8 - 1e-6
    if found.low < found.age < found.high:
        assert inside <= 0.8 + 1e-6


@given(weights, st.sampled_from([1e-3, 7.0]))
def test_scaling_the_weights_changes_nothing(values: list[float], scale: float) -> None:
    probabilities = np.array(values) / sum(values)
    found, scaled = (decide_age(share, large_enough=True) for share in (probabilities, scale * probabilities))
    assert (scaled.age, scaled.low, scaled.high) == pytest.approx((found.age, found.low, found.high), abs=1e-6)


@given(weights)
def test_too_small_face_has_bounds_but_no_age(values: list[float]) -> None:
    large, small = (decide_age(np.array(values), large_enough=large_enough) for large_enough in (True, False))
    assert small.age is None
    assert small.group is None
    assert (small.low, small.high) == (large.low, large.high)


@given(st.floats(-5, 150))
def test_age_group_contains_the_age(age: float) -> None:
    group = age_group(age)
    assert group in AGE_GROUPS
    first = int(group.rstrip("+").split("-")[0])
    assert first <= max(age, 0)
    assert group == "70+" or max(age, 0) < first + 10


def test_vocabulary_matches_the_tables() -> None:
    assert ("age", *CLASSES) == ATTRIBUTES
    assert CLASSES == {
        "gender": ("female", "male"),
        "ethnicity": ("white", "black", "asian", "indian", "middle_eastern", "latino_hispanic"),
        "emotion": ("neutral", "happiness", "sadness", "anger", "fear", "surprise", "disgust"),
    }


def test_coarse_labels_stand_for_several_classes() -> None:
    assert LABELS["ethnicity"] == (*CLASSES["ethnicity"], "others")
    assert LABEL_CLASSES["ethnicity"] == ((0,), (1,), (2,), (3,), (4,), (5,), (4, 5))
    for name in ("gender", "emotion"):
        assert LABELS[name] == CLASSES[name]
        assert LABEL_CLASSES[name] == tuple((index,) for index in range(len(CLASSES[name])))
