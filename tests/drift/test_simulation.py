"""The goals of the rule, on simulated nights; `tests/tools/simulate_drift.py` prints more of them."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceattr_udf.config import DriftConfig

simulation: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "simulate_drift.py"))


@pytest.mark.parametrize("n_faces", simulation["SIZES"])
def test_steady_nights_are_no_alarm(n_faces: int) -> None:
    alarms, judged = simulation["false_alarms"](np.random.default_rng(7), 150, n_faces, DriftConfig())
    assert judged == 1001
    assert alarms == 0


def test_move_of_five_points_is_seen_among_20_000_faces() -> None:
    assert simulation["seen"](np.random.default_rng(7), 20_000, 28, DriftConfig(), 100, 0.05) >= 0.75


def test_a_rule_without_the_nights_scatter_would_alarm() -> None:
    careless = DriftConfig(points=0.0, false_alarms=0.05)
    alarms, judged = simulation["false_alarms"](np.random.default_rng(7), 150, 200_000, careless)
    assert alarms > 0.02 * judged
