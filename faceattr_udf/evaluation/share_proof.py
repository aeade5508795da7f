"""Measures corrected shares on labeled faces: how far they are from the truth, and how often their intervals hold it.

Three experiments, each over many mixes of labels that differ from the calibration's (uniform on the simplex):

- "halves": half of the faces calibrates, the other half is the catalogue, drawn without replacement. The number of
  faces that a mix can have is limited by the rarest label, so it is small.
- "resampled": the labeled faces are the population. Calibration faces and catalogue are drawn from it with replacement,
  independently of each other. So the catalogue can have any size, and an interval is judged against what it claims.
  Half a pool drawn with replacement would be dishonest instead: from 50,000 faces that repeat 1,000, no interval can
  know the error that those 1,000 have in common.
- "sources": one source is the catalogue, and others calibrate.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np

from faceattr_udf.arrays import Float64Array, Int64Array
from faceattr_udf.evaluation.quantify import Case
from faceattr_udf.evaluation.sources import BALANCED_SOURCES
from faceattr_udf.shares.calibrate import MIN_FACES, cells_of
from faceattr_udf.shares.correct import CorrectedShares, Population, Sums, Z, correct, inside, photograph_sums
from faceattr_udf.shares.emq import emq
from faceattr_udf.shares.fit import Fit, check_fit
from faceattr_udf.shares.statistics import BANDS, METHODS, POOLED, AttributeStatistics, Method, band_of

MIXES: Final = 200
SIZES: Final = (300, 3_000, 50_000)
_EMQ_FACES: Final = 3_000
"""Faces above which the second opinion is not computed: it is slow, and hardly changes any more."""


@dataclass(frozen=True)
class Trial:
    """One catalogue: its calibration, its faces and the shares that are true for it.

    Attributes:
        statistics: The calibration.
        catalogue: The faces.
        mix: (K,), the shares of the population that the faces were drawn from.
    """

    statistics: AttributeStatistics
    catalogue: Case
    mix: Float64Array

    @property
    def truth(self) -> Float64Array:
        """(K,), the shares of exactly these faces."""
        return np.asarray(np.bincount(self.catalogue.truth, minlength=len(self.mix)) / len(self.catalogue))


def sums_of(case: Case, method: Method) -> dict[tuple[Method, str], Sums]:
    """Returns the sums of a catalogue in which each face has a photograph of its own."""
    bands = band_of(case.face_px)
    scores = case.scores if method == "pacc" else np.eye(len(case.labels))[case.predicted]
    return {
        (method, band): photograph_sums(scores[bands == index])
        for index, band in enumerate(BANDS)
        if (bands == index).any()
    }


def estimate(trial: Trial, method: Method, population: Population) -> tuple[CorrectedShares, Fit] | None:
    """Corrects the shares of a trial, and checks the fit; None where nothing can be corrected."""
    shares = correct(trial.statistics, sums_of(trial.catalogue, method), population)
    if shares is None:
        return None
    count = len(trial.mix)
    cells = np.bincount(cells_of(trial.catalogue.scores, trial.statistics.edges), minlength=3 * count)
    faces = trial.statistics.scores[method][POOLED].faces
    fit = check_fit(trial.statistics, shares.share, cells, faces)
    return None if fit is None else (shares, fit)


def halves(case: Case, size: int, mixes: int = MIXES, seed: int = 0) -> Iterator[Trial]:
    """Yields trials of disjoint halves, without replacement; of fewer faces where a mix has no more."""
    rng = np.random.default_rng(seed)
    for _ in range(mixes):
        order = rng.permutation(len(case))
        half = len(case) // 2
        statistics = case.take(order[:half]).calibrate()
        if statistics is not None:
            pool = case.take(order[half:])
            mix = rng.dirichlet(np.ones(len(case.labels)))
            yield Trial(statistics, pool.take(_draw_once(pool.truth, mix, size)), mix)


def _draw_once(truth: Int64Array, mix: Float64Array, size: int) -> Int64Array:
    """Returns indices of shuffled faces in the proportions of a mix, each at most once."""
    have = np.bincount(truth, minlength=len(mix))
    most = min(float(size), *(have[mix > 0] / mix[mix > 0]))
    wanted = np.floor(mix * most + 1e-9).astype(int)
    wanted[mix.argmax()] += max(0, min(1, have[mix.argmax()]) - wanted.sum())  # one face at least
    return np.concatenate([np.flatnonzero(truth == label)[:count] for label, count in enumerate(wanted)])


def resampled(case: Case, size: int, mixes: int = MIXES, seed: int = 0) -> Iterator[Trial]:
    """Yields trials in which the faces are the population: calibration and catalogue are drawn apart from it."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(case.truth == label) for label in range(len(case.labels))]
    for _ in range(mixes):
        drawn = np.concatenate([rng.choice(one, len(one)) for one in members])
        statistics = case.take(drawn).calibrate()
        if statistics is None:
            return
        mix = rng.dirichlet(np.ones(len(case.labels)))
        counts = rng.multinomial(size, mix)
        index = np.concatenate([rng.choice(one, count) for one, count in zip(members, counts, strict=True)])
        yield Trial(statistics, case.take(index), mix)


def across_sources(
    case: Case, calibrating: Sequence[str], source: str, *, size: int, mixes: int = MIXES, seed: int = 0
) -> Iterator[Trial]:
    """Yields trials in which all faces of some sources calibrate, and mixes of another source are the catalogue.

    Mixes have only labels of which the source has `MIN_FACES` faces.
    """
    rng = np.random.default_rng(seed)
    statistics = case.take(np.isin(case.source, calibrating)).calibrate()
    pool = case.take(case.source == source)
    present = np.bincount(pool.truth, minlength=len(case.labels)) >= MIN_FACES
    if statistics is None or present.sum() < 2:
        return
    for _ in range(mixes):
        shuffled = pool.take(rng.permutation(len(pool)))
        mix = np.zeros(len(case.labels))
        mix[present] = rng.dirichlet(np.ones(int(present.sum())))
        yield Trial(statistics, shuffled.take(_draw_once(shuffled.truth, mix, size)), mix)


def score(trials: Iterator[Trial], method: Method = "acc", *, second_opinion: bool = False) -> dict[str, Any] | None:
    """Scores trials.

    Args:
        trials: From one of the experiments.
        method: What is corrected.
        second_opinion: Whether to estimate the shares by expectation maximization, too.

    Returns:
        trials; faces (median); errors in points (mean over trials and labels of the absolute error times 100) of
        counted labels ("raw"), mean probabilities ("soft"), the corrected share ("corrected") and, if asked, "emq";
        ratio (corrected / raw); coverage of the intervals of both populations, without the model's error
        ("sample_only"), and with the transfer term where there is one; "transfer_or_poor" (trials' labels inside that
        interval, or whose fit is poor); poor (share of trials); half_width and half_width_transfer (mean, points).
        None without trials.
    """
    errors: dict[str, list[float]] = {}
    held: dict[str, list[float]] = {}
    faces, poor, widths, wider = [], [], [], []
    for trial in trials:
        both = {population: estimate(trial, method, population) for population in _POPULATIONS}
        if both["catalogue"] is None or both["audience"] is None:
            continue
        (shares, fit), (audience, _) = both["catalogue"], both["audience"]
        truth, case = trial.truth, trial.catalogue
        estimates = {
            "raw": np.bincount(case.predicted, minlength=len(truth)) / len(case),
            "soft": case.scores.mean(axis=0),
            "corrected": shares.share,
        }
        if second_opinion and len(case) <= _EMQ_FACES:
            prior = trial.statistics.scores[method][POOLED].faces
            estimates["emq"] = emq(case.scores, prior / prior.sum())
        for name, values in estimates.items():
            errors.setdefault(name, []).append(100.0 * float(np.abs(values - truth).mean()))
        test_only = Z * audience.se_sample
        inside_now = {
            "catalogue": inside(shares.low, shares.high, truth),
            "audience": inside(audience.low, audience.high, trial.mix),
            "sample_only": inside(audience.unprojected - test_only, audience.unprojected + test_only, trial.mix),
        }
        if shares.low_transfer is not None and shares.high_transfer is not None:
            inside_now["transfer"] = inside(shares.low_transfer, shares.high_transfer, truth)
            wider.append(50.0 * float((shares.high_transfer - shares.low_transfer).mean()))
        wide = inside_now.get("transfer", inside_now["catalogue"])
        inside_now["transfer_or_poor"] = wide | fit.is_poor
        for name, hits in inside_now.items():
            held.setdefault(name, []).append(100.0 * float(hits.mean()))
        faces.append(len(case))
        poor.append(fit.is_poor)
        widths.append(50.0 * float((shares.high - shares.low).mean()))
    if not faces:
        return None
    means = {name: round(float(np.mean(values)), 3) for name, values in errors.items()}
    return {
        "trials": len(faces),
        "faces": int(np.median(faces)),
        "error": means,
        "ratio": round(means["corrected"] / max(means["raw"], 0.01), 3),
        "coverage": {name: round(float(np.mean(values)), 1) for name, values in held.items()},
        "poor": round(100.0 * float(np.mean(poor)), 1),
        "half_width": round(float(np.mean(widths)), 2),
        "half_width_transfer": round(float(np.mean(wider)), 2) if wider else None,
    }


_POPULATIONS: Final[tuple[Population, ...]] = get_args(Population)


def prove(
    found: Mapping[str, Case],
    unseen: Mapping[str, Case],
    told: Callable[[str], object] = lambda _: None,
    mixes: int = MIXES,
) -> dict[str, Any]:
    """Runs all experiments with both methods.

    Args:
        found: Attribute -> its faces.
        unseen: Attribute -> faces of sources that calibrate nothing; each is a catalogue for all other sources.
        told: Is told the name of each attribute before its experiments.
        mixes: Mixes of each experiment.

    Returns:
        Attribute -> "faces" (by label) and method -> experiment -> what `score` returns; "halves" and "resampled" by
        size, "sources" by "all others -> SOURCE", and by "SOURCE -> SOURCE" where one of `BALANCED_SOURCES` calibrates.
    """
    results: dict[str, Any] = {}
    for attribute, case in found.items():
        told(attribute)
        results[attribute] = {"faces": np.bincount(case.truth, minlength=len(case.labels)).tolist()}
        both = case.joined(unseen[attribute]) if attribute in unseen else case
        for method in METHODS:
            across = {
                f"{name} -> {source}": score(
                    across_sources(both, calibrating, source, size=SIZES[1], mixes=mixes), method
                )
                for name, calibrating, source in _pairs(case, both)
            }
            results[attribute][method] = {
                "halves": {str(n): score(halves(case, n, mixes), method, second_opinion=True) for n in SIZES[:2]},
                "resampled": {str(n): score(resampled(case, n, mixes), method, second_opinion=True) for n in SIZES},
                "sources": {name: scored for name, scored in across.items() if scored is not None},
            }
    return results


def _pairs(case: Case, both: Case) -> Iterator[tuple[str, list[str], str]]:
    """Yields the name of the calibrating sources, these sources, and the source of the catalogue."""
    calibrating = np.unique(case.source).tolist()
    for source in np.unique(both.source).tolist():
        others = [name for name in calibrating if name != source]
        if len(others) > 1:
            yield "all others", others, source
        yield from ((name, [name], source) for name in others if name in BALANCED_SOURCES or len(others) == 1)
