"""Corrected shares: against hand calculations, QuaPy's estimates, simulations and additivity."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.attributes.predictor import model_record
from faceattr_udf.config import AttributesConfig
from faceattr_udf.errors import WeightsError
from faceattr_udf.shares.calibrate import MIN_FACES, calibrate, cells_of
from faceattr_udf.shares.calibration_file import LABELS, load_calibration, read_calibration, write_calibration
from faceattr_udf.shares.correct import Sums, correct, photograph_sums
from faceattr_udf.shares.emq import emq
from faceattr_udf.shares.fit import check_fit
from faceattr_udf.shares.simplex import project
from faceattr_udf.shares.statistics import BANDS, MAX_CONDITION, POOLED, AttributeStatistics, Method, band_of
from faceattr_udf.weights import load_file


def statistics_of(truth: np.ndarray, scores: np.ndarray, sources: np.ndarray | None = None) -> AttributeStatistics:
    found = calibrate(
        tuple("abcdefgh"[: scores.shape[1]]),
        truth=truth,
        scores=scores,
        face_px=np.full(len(truth), 100.0),
        sources=np.full(len(truth), "x") if sources is None else sources,
        predicted=scores.argmax(axis=1),
    )
    assert found is not None
    return found


def oracle_faces() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels and scores of calibration faces, and scores of a catalog with other shares."""
    rng = np.random.default_rng(7)
    truth = np.repeat(np.arange(3), [100, 80, 60])
    alpha = np.array([[6, 2, 1], [1, 5, 2], [1, 1, 4.0]])
    calibration = np.array([rng.dirichlet(alpha[label]) for label in truth]).round(3)
    catalog = np.array([rng.dirichlet(alpha[label]) for label in np.repeat(np.arange(3), [20, 50, 130])]).round(3)
    return (
        truth,
        calibration / calibration.sum(axis=1, keepdims=True),
        catalog / catalog.sum(axis=1, keepdims=True),
    )


QUAPY: dict[Method, list[float]] = {
    "pacc": [0.06595806346564068, 0.21942404798321244, 0.7146178885511468],
    "acc": [0.08215130023640664, 0.20189125295508276, 0.7159574468085107],
}
"""QuaPy 0.2.3 on these faces: getPteCondEstim of PACC and ACC, solve_adjustment(method="inversion",
solver="exact-raise"), normalize_prevalence(method="mapsimplex")."""

QUAPY_EMQ = [6.941267431394541e-10, 0.06890697607975516, 0.931093023226118]
"""EMQ.EM with the shares of the calibration as prior and epsilon=1e-10."""


@pytest.mark.parametrize("method", ["acc", "pacc"])
def test_shares_equal_those_of_quapy(method: Method) -> None:
    truth, calibration, catalog = oracle_faces()
    scores = catalog if method == "pacc" else np.eye(3)[catalog.argmax(axis=1)]
    shares = correct(statistics_of(truth, calibration), {(method, "large"): photograph_sums(scores)})
    assert shares is not None
    assert shares.share == pytest.approx(QUAPY[method], abs=1e-9)


def test_second_opinion_equals_that_of_quapy() -> None:
    truth, _, catalog = oracle_faces()
    prior = np.bincount(truth) / len(truth)
    assert emq(catalog, prior, tolerance=1e-10) == pytest.approx(QUAPY_EMQ, abs=1e-6)


def test_shares_by_hand() -> None:
    # 20 of 25 faces of each label are recognized; 50 faces were counted as a, 50 as b.
    truth = np.repeat([0, 1], 25)
    predicted = np.concatenate([[0] * 20 + [1] * 5, [1] * 20 + [0] * 5])
    statistics = statistics_of(truth, np.eye(2)[predicted])
    shares = correct(statistics, {("acc", "large"): photograph_sums(np.eye(2)[np.repeat([0, 1], [35, 65])])})
    assert shares is not None
    # 0.8 s + 0.2 (1 - s) = 0.35
    assert shares.share == pytest.approx([0.25, 0.75])
    # The variance of one score is 0.16 * 25 / 24; a unit of the mean score moves the share by 1 / 0.6.
    one = 0.16 * 25 / 24 / 0.36
    assert shares.se_sample[0] ** 2 == pytest.approx(one / 100)
    assert shares.se_model[0] ** 2 == pytest.approx(one * (0.25**2 + 0.75**2) / 25)
    margin = 1.959964 * (one / 100 + one * 0.625 / 25) ** 0.5
    assert (shares.low[0], shares.high[0]) == (pytest.approx(max(0, 0.25 - margin)), pytest.approx(0.25 + margin))
    assert shares.se_transfer is None


def test_no_faces_have_no_share() -> None:
    truth, calibration, _ = oracle_faces()
    statistics = statistics_of(truth, calibration)
    assert correct(statistics, {}) is None
    assert correct(statistics, {("acc", "large"): photograph_sums(np.zeros((0, 3)))}) is None


def test_share_of_one_label_is_one_and_its_interval_is_not_empty() -> None:
    truth, calibration, _ = oracle_faces()
    faces = np.tile([1.0, 0.0, 0.0], (5, 1))
    shares = correct(statistics_of(truth, calibration), {("acc", "large"): photograph_sums(faces)})
    assert shares is not None
    assert shares.unprojected.min() < 0.0  # more faces look like a than faces of a do
    assert shares.share.tolist() == [1.0, 0.0, 0.0]
    assert shares.low[0] < 1.0 == shares.high[0]


def test_labels_with_too_few_calibration_faces_are_not_corrected() -> None:
    truth = np.repeat([0, 1], [40, MIN_FACES - 1])
    arguments = {"face_px": np.full(len(truth), 50.0), "sources": np.full(len(truth), "x"), "predicted": truth}
    assert calibrate(("a", "b"), truth=truth, scores=np.eye(2)[truth], **arguments) is None


def test_scores_that_do_not_tell_labels_apart_are_not_corrected() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 50)
    scores = rng.dirichlet(np.ones(3), len(truth))
    statistics = statistics_of(truth, scores)
    assert statistics.scores["pacc"][POOLED].condition > MAX_CONDITION
    assert not statistics.corrects("pacc")
    assert correct(statistics, {("pacc", "large"): photograph_sums(scores)}) is None


def test_bands_need_faces_of_every_label() -> None:
    truth = np.tile([0, 1], 300)
    face_px = np.repeat([20.0, 60.0, 120.0], [100, 200, 300])
    found = calibrate(
        ("a", "b"),
        truth=truth,
        scores=np.eye(2)[truth],
        face_px=face_px,
        sources=np.full(600, "x"),
        predicted=truth,
    )
    assert found is not None
    assert set(found.scores["acc"]) == {POOLED, "large"}
    assert [found.group("acc", band) for band in (*BANDS, "unknown")] == [POOLED, POOLED, "large", POOLED]


def test_transfer_term_needs_three_sources_of_every_label() -> None:
    truth = np.tile([0, 1], 90)
    wrong = np.zeros(180, bool)
    wrong[[0, 2, 60, 62, 64, 66, 120, 122]] = True
    scores = np.eye(2)[np.where(wrong, 1 - truth, truth)]
    three, two = np.repeat(["x", "y", "z"], 60), np.repeat(["x", "y", "y"], 60)
    assert statistics_of(truth, scores, two).transfer("acc") is None
    found = statistics_of(truth, scores, three).transfer("acc")
    assert found is not None
    covariance, fewest = found
    # Label a is missed in 2, 4 and 2 of 30 faces; with one more source the variance of its mean is s^2 (1 + 1/3).
    missed = np.array([2, 4, 2]) / 30
    assert fewest == 3
    assert covariance[0, 0, 0] == pytest.approx(missed.var(ddof=1) * 4 / 3)
    assert covariance[1].max() == pytest.approx(0.0)


PHOTOGRAPHS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=30)


@given(PHOTOGRAPHS, PHOTOGRAPHS)
def test_sums_of_parts_add_up(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    def sums(faces: list[tuple[int, int]], offset: int) -> Sums:
        return photograph_sums(
            np.eye(3)[[label for _, label in faces]], np.array([image + offset for image, _ in faces])
        )

    together = photograph_sums(
        np.eye(3)[[label for _, label in first + second]],
        np.array([image for image, _ in first] + [image + 10 for image, _ in second]),
    )
    added = sums(first, 0) + sums(second, 10)
    assert np.allclose(added.scores, together.scores)
    assert np.allclose(added.products, together.products)
    # The row sums of the products are the scores weighted by the size of their photograph.
    assert together.products.sum() >= together.scores.sum()


@given(st.lists(st.floats(-2, 3), min_size=2, max_size=8))
def test_projection_is_the_nearest_point(values: list[float]) -> None:
    point = np.array(values)
    nearest = project(point)
    assert nearest.min() >= 0.0
    assert nearest.sum() == pytest.approx(1.0)
    others = np.random.default_rng(0).dirichlet(np.ones(len(values)), 200)
    assert ((others - point) ** 2).sum(axis=1).min() >= ((nearest - point) ** 2).sum() - 1e-9


def simulated(truth: np.ndarray, sharpness: float, rng: np.random.Generator) -> np.ndarray:
    logits = sharpness * np.eye(3)[truth] + rng.normal(size=(len(truth), 3))
    scores = np.exp(logits)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("method", ["acc", "pacc"])
def test_intervals_cover_the_true_shares_at_every_size(method: Method) -> None:
    rng = np.random.default_rng(3)
    inside = {"catalogue": 0, "audience": 0, "without the model's error": 0}
    rounds, size = 150, 20_000
    for _ in range(rounds):
        labels = np.repeat([0, 1, 2], [200, 150, 100])
        statistics = statistics_of(labels, simulated(labels, 2.0, rng))
        mix = rng.dirichlet(np.ones(3))
        truth = rng.choice(3, size, p=mix)
        scores = simulated(truth, 2.0, rng)
        used = scores if method == "pacc" else np.eye(3)[scores.argmax(axis=1)]
        sums = {(method, "large"): photograph_sums(used)}
        for population, true in (("catalogue", np.bincount(truth, minlength=3) / size), ("audience", mix)):
            shares = correct(statistics, sums, population)  # type: ignore[arg-type]
            assert shares is not None
            inside[population] += int(((shares.low <= true) & (true <= shares.high)).sum())
            if population == "audience":
                narrow = np.abs(shares.unprojected - true) <= 1.96 * shares.se_sample
                inside["without the model's error"] += int(narrow.sum())
    covered = {name: 100 * hits / (3 * rounds) for name, hits in inside.items()}
    assert 91 <= covered["catalogue"] <= 98
    assert 91 <= covered["audience"] <= 98
    assert covered["without the model's error"] < 70


def test_fit_is_poor_where_photographs_differ_and_not_where_the_mix_does() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2], 300)
    statistics = statistics_of(labels, simulated(labels, 2.5, rng))
    poor = {}
    for name, sharpness in (("mix", 2.5), ("blurred", 1.2)):
        truth = rng.choice(3, 3000, p=[0.7, 0.2, 0.1])
        scores = simulated(truth, sharpness, rng)
        shares = correct(statistics, {("acc", "large"): photograph_sums(np.eye(3)[scores.argmax(axis=1)])})
        assert shares is not None
        cells = np.bincount(cells_of(scores, statistics.edges), minlength=9)
        fit = check_fit(statistics, shares.share, cells, statistics.scores["acc"][POOLED].faces)
        assert fit is not None
        poor[name] = fit.is_poor
    assert poor == {"mix": False, "blurred": True}
    assert check_fit(statistics, np.ones(3) / 3, np.zeros(9), np.ones(3)) is None


def test_bands_have_their_limits() -> None:
    assert band_of(np.array([])).tolist() == []


def written(tmp_path: Path) -> Path:
    truth, calibration, _ = oracle_faces()
    labels = LABELS["gender"]
    found = calibrate(
        labels,
        truth=truth % 2,
        scores=calibration[:, :2] / calibration[:, :2].sum(axis=1, keepdims=True),
        face_px=np.linspace(20, 140, len(truth)),
        sources=np.repeat(["x", "y"], len(truth) // 2),
        predicted=truth % 2,
    )
    assert found is not None
    path = tmp_path / "own.quantify.json"
    write_calibration(path, "own-1", {"gender": found})
    return path


def test_file_holds_what_was_measured(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    calibration = read_calibration(content, path.name)
    assert calibration.calibration_id == hashlib.sha256(content).hexdigest()[:16]
    again = tmp_path / "again.quantify.json"
    write_calibration(again, calibration.attribute_model, calibration.attributes)
    assert again.read_bytes() == content
    pooled = calibration.attributes["gender"].scores["pacc"][POOLED]
    assert np.allclose(pooled.means.sum(axis=1), 1.0, atol=1e-5)
    assert np.array_equal(pooled.covariances, pooled.covariances.transpose(0, 2, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"more": 1},
        {"attributes": {"gender": {}}},
        {"attributes": {"age": {}}},
    ],
)
def test_malformed_files_are_told(tmp_path: Path, change: dict[str, object]) -> None:
    path = written(tmp_path)
    data = json.loads(path.read_text()) | change
    with pytest.raises(WeightsError, match=r"own\.quantify\.json is malformed \(first error: "):
        read_calibration(json.dumps(data).encode(), path.name)


def test_file_with_other_labels_is_told(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = json.loads(path.read_text())
    data["attributes"]["gender"]["labels"] = ["f", "m"]
    with pytest.raises(WeightsError, match="malformed"):
        read_calibration(json.dumps(data).encode(), path.name)


def test_shipped_calibration_fits_the_shipped_weights() -> None:
    record = model_record(AttributesConfig())
    calibration = load_calibration(record)
    assert calibration is not None
    assert set(calibration.attributes) == set(LABELS)
    assert all(one.corrects(method) for one in calibration.attributes.values() for method in ("acc", "pacc"))
    assert len(load_file(record, "quantify.json")) <= 60 * 1024
    without = record.model_copy(update={"sha256": {}})
    assert load_calibration(without) is None
    other = record.model_copy(update={"version": "0"})
    with pytest.raises(WeightsError, match="measure it again with faceattr evaluate --quantify"):
        load_calibration(other)
    altered = record.model_copy(update={"sha256": {f"{record.name}.quantify.json": "0" * 64}})
    with pytest.raises(WeightsError, match="has checksum"):
        load_calibration(altered)
