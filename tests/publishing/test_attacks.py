"""Attacks on published tables; each wins where the protection against it is missing."""

import itertools
from typing import Any

import numpy as np
import pytest
from attacker import Attacker
from worlds import K, World

from faceattr_udf.publishing import release, suppress

SEEDS = range(12)
NIGHTS = 4


def won(seed: int, nights: int = NIGHTS, *, freeze: bool = True) -> list[str]:
    world = World.random(seed)
    versions = world.nights(nights, freeze=freeze)
    return Attacker(world.labels, world.weights, K).attack(versions)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_attack_wins(seed: int) -> None:
    assert won(seed) == []


def test_sums_give_cells_back_without_complementary_suppression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "suppressed", lambda table, k, _: suppress.few_people(table, k))
    assert all("within a table" in found for found in won(1, nights=1))
    assert sum(bool(won(seed, nights=1)) for seed in SEEDS) > 5


def test_single_rows_and_columns_are_not_enough_without_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppress, "narrow_cells", lambda table, *_: np.zeros(table.people.shape, dtype=bool))
    assert any(won(seed, nights=1) for seed in range(150))


def test_nights_differ_by_few_people_unless_periods_are_frozen() -> None:
    found = list(itertools.chain.from_iterable(won(seed, 3, freeze=False) for seed in range(5)))
    assert any("differs between nights" in one for one in found)
    assert any("by two nights" in one for one in found)


@pytest.mark.parametrize("freeze", [True, False])
def test_an_erasure_does_not_show(freeze: bool) -> None:
    shown = 0
    for seed in SEEDS:
        world = World.random(seed)
        before = world.publish(0, freeze=freeze)
        world.people.pop()
        after = world.publish(1, freeze=freeze)
        shown += before != after
    assert (shown == 0) == freeze


@pytest.mark.parametrize("from_all_counts", [False, True])
def test_corrected_shares_give_nothing_back(monkeypatch: pytest.MonkeyPatch, from_all_counts: bool) -> None:
    if from_all_counts:
        plain = release.corrected_shares

        def careless(people: np.ndarray, hidden: np.ndarray, statistics: Any) -> Any:
            return plain(people, np.zeros_like(hidden), statistics)

        monkeypatch.setattr(release, "corrected_shares", careless)
    assert any(bool(won(seed, nights=1)) for seed in SEEDS) == from_all_counts
