"""The proof of corrected shares: its experiments draw what they claim, and it finds what is wrong with an interval."""

import numpy as np
import pytest
from face_sets import NO_AGE, certain, labeled_faces

from faceattr_udf.evaluation.quantify import Case, cases, statistics_of
from faceattr_udf.evaluation.share_proof import across_sources, halves, prove, resampled, score
from faceattr_udf.shares.calibrate import MIN_FACES


def a_case(size: int = 900, seed: int = 0, sharpness: float = 2.0, source: str = "x") -> Case:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, size)
    logits = sharpness * np.eye(3)[truth] + rng.normal(size=(size, 3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Case(
        ("a", "b", "c"), truth, scores, scores.argmax(axis=1), rng.uniform(20, 150, size), np.full(size, source)
    )


def test_halves_draw_no_face_twice() -> None:
    case = a_case()
    for trial in halves(case, 200, mixes=5):
        assert 1 <= len(trial.catalogue) <= 200
        assert len(np.unique(trial.catalogue.scores, axis=0)) == len(trial.catalogue)
        assert np.abs(trial.truth - trial.mix).max() < 0.1 or len(trial.catalogue) < 30
        assert trial.statistics.scores["acc"]["pooled"].faces.sum() == len(case) // 2


def test_resampled_catalog_has_its_size() -> None:
    (trial,) = resampled(a_case(), 5_000, mixes=1)
    assert len(trial.catalogue) == 5_000
    assert trial.statistics.scores["acc"]["pooled"].faces.tolist() == np.bincount(a_case().truth).tolist()


@pytest.mark.parametrize("method", ["acc", "pacc"])
def test_proof_of_one_source(method: str) -> None:
    scored = score(resampled(a_case(), 20_000, mixes=60), method)  # type: ignore[arg-type]
    assert scored is not None
    assert scored["error"]["corrected"] < 0.5 * scored["error"]["raw"]
    assert scored["coverage"]["catalogue"] >= 90
    assert scored["coverage"]["sample_only"] < 70  # what an interval without the model's error covers
    assert scored["poor"] == 0.0


def test_proof_of_another_source_sees_that_photographs_differ() -> None:
    both = a_case().joined(a_case(2_000, 1, sharpness=1.0, source="blurred"))
    scored = score(across_sources(both, ["x"], "blurred", size=1_000, mixes=20))
    assert scored is not None
    assert scored["coverage"]["catalogue"] < 80
    assert scored["poor"] > 80
    assert scored["coverage"]["transfer_or_poor"] > scored["coverage"]["catalogue"]


def test_too_few_faces_have_no_proof() -> None:
    few = a_case(3 * MIN_FACES // 2)
    assert few.calibrate() is None
    assert score(halves(few, 10, mixes=2)) is None
    assert score(resampled(few, 10, mixes=2)) is None
    proved = prove({"gender": few}, {}, mixes=2)
    assert proved["gender"]["acc"]["sources"] == {}


def test_cases_leave_out_what_calibrates_nothing() -> None:
    faces = labeled_faces(
        ["utkface", "muxspace", "utkface", "fairface"],
        [(30.0, 30.0), NO_AGE, (8.0, 12.0), (20.0, 29.0)],
        ethnicity=[0, 0, 6, 1],  # 6 is others
        gender=[0, 1, -1, 1],
    )
    found = cases(certain([31, 40, 50, 29], ethnicity=[0, 0, 1, 1]), faces)
    assert found["ethnicity"].source.tolist() == ["utkface", "fairface"]
    assert found["gender"].truth.tolist() == [0, 1, 1]
    assert found["age_group"].truth.tolist() == [3, 2]  # a range that spans two groups is no label
    assert found["age_group"].predicted.tolist() == [3, 2]
    assert len(found["emotion"]) == 0
    assert statistics_of(found) == {}
    assert set(cases({"gender": certain([1, 2, 3, 4])["gender"]}, faces)) == {"gender"}
