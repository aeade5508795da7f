"""Simulates nights of seven emotions, and counts false alarms and the moves that the rule sees.

python tests/tools/simulate_drift.py [nights]
"""

import sys
from datetime import UTC, datetime, timedelta

import numpy as np

from faceattr_udf.config import DriftConfig
from faceattr_udf.drift.nights import Key, Night, judge_in_order, judge_night
from faceattr_udf.drift.rule import Value
from faceattr_udf.labels import EMOTIONS

SHARES = np.array([0.35, 0.30, 0.10, 0.08, 0.07, 0.06, 0.04])
SCATTER = 0.01
"""Standard deviation of a share between nights beyond chance: one point."""

SIZES = (200, 2_000, 20_000, 200_000)
START = datetime(2026, 1, 1, tzinfo=UTC)


def nights(rng: np.random.Generator, count: int, n_faces: int, move: float = 0.0) -> list[Night]:
    """Returns nights; `move` goes from the first to the third label, as a fraction."""
    mix = SHARES.copy()
    mix[0] -= move
    mix[2] += move
    scatter = rng.normal(0.0, SCATTER, (count, mix.size))
    scatter = (scatter - scatter.mean(axis=1, keepdims=True)) * np.sqrt(mix.size / (mix.size - 1))
    likely = np.clip(mix + scatter, 0.003, None)
    shares = rng.multinomial(n_faces, likely / likely.sum(axis=1, keepdims=True)) / n_faces
    found = []
    for number, night in enumerate(shares.tolist()):
        values = {
            Key("share", f"emotion/{label}"): Value(share, n_faces, (share * (1 - share) / n_faces) ** 0.5)
            for label, share in zip(EMOTIONS, night, strict=True)
        }
        started = START + timedelta(days=number)
        found.append(Night(f"{number:05}", started, "model", "config", n_faces, n_faces, values))
    return found


def false_alarms(rng: np.random.Generator, count: int, n_faces: int, settings: DriftConfig) -> tuple[int, int]:
    """Returns the alarms of steady nights one after the other, and the number of judged values."""
    reports = judge_in_order(nights(rng, count, n_faces), [], settings)
    judged = sum(verdict.reason is None for report in reports for verdict in report.verdicts.values())
    return sum(len(report.alarms) for report in reports), judged


def seen(rng: np.random.Generator, n_faces: int, before: int, settings: DriftConfig, rounds: int, move: float) -> float:
    """Returns the fraction of nights in which a move is seen after some steady nights."""
    found = 0
    for _ in range(rounds):
        steady = nights(rng, before, n_faces)
        (moved,) = nights(rng, 1, n_faces, move)
        found += judge_night(moved, steady, settings).kind is not None
    return found / rounds


def main(count: int) -> None:
    settings = DriftConfig()
    print(f"{count} steady nights of {len(EMOTIONS)} labels in a row; moves of 2 and 5 points after 28 and 56 nights")
    print("faces    false alarms of values   5 points, 28   5 points, 56   2 points, 56")
    for n_faces in SIZES:
        rng = np.random.default_rng(0)
        alarms, judged = false_alarms(rng, count, n_faces, settings)
        rates = [
            seen(rng, n_faces, before, settings, count // 10, move)
            for before, move in ((28, 0.05), (56, 0.05), (56, 0.02))
        ]
        print(f"{n_faces:<8} {alarms:>4} of {judged:<15} ", *(f"{rate:>13.0%}" for rate in rates))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000)
