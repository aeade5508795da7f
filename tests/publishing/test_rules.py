"""An attacker who runs the code: keeps, of all possible tables, those that would have been published the same way."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from faceattr_udf.publishing import suppress
from faceattr_udf.publishing.suppress import suppressed
from faceattr_udf.publishing.table import Table, table_of

K = 3
LABELS = ("a", "b", "c")


class Scripted:
    """Stands in for a random generator: takes given choices, then first ones, and records how many there were."""

    def __init__(self, script: list[int]) -> None:
        self._script, self.taken = script, list[tuple[int, int]]()

    def choice(self, options: Any, p: Any = None) -> Any:  # noqa: ARG002
        count = options if isinstance(options, int) else len(options)
        chosen = self._script[len(self.taken)] if len(self.taken) < len(self._script) else 0
        self.taken.append((chosen, count))
        return chosen if isinstance(options, int) else options[chosen]


class Cheapest:
    """Always takes what is most likely: the fewest people."""

    def choice(self, _: int, p: np.ndarray) -> int:
        return int(np.argmax(p))


def all_outcomes(table: Table) -> Iterator[np.ndarray]:
    """Yields what is suppressed for every outcome of the random choices."""
    script: list[int] | None = []
    while script is not None:
        rng = Scripted(script)
        yield suppressed(table, K, rng)
        taken = rng.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        script = [*(chosen for chosen, _ in taken[:-1]), taken[-1][0] + 1] if taken else None


def tables(totals: tuple[int, ...], labels: int) -> Iterator[Table]:
    """Yields all tables with these totals of catalogs."""
    rows = [
        [row for row in itertools.product(range(total + 1), repeat=labels) if sum(row) == total] for total in totals
    ]
    for chosen in itertools.product(*rows):
        people = {f"catalog{n}": dict(zip(LABELS, row, strict=False)) for n, row in enumerate(chosen)}
        table = table_of(people, LABELS[:labels], K)
        assert table is not None
        yield table


def narrowest(totals: tuple[int, ...], labels: int, *, cheapest: bool = False) -> int:
    """Returns the smallest range in which the attacker has a suppressed cell."""
    same: dict[bytes, list[np.ndarray]] = defaultdict(list)
    for table in tables(totals, labels):
        outcomes = [suppressed(table, K, Cheapest())] if cheapest else all_outcomes(table)
        for hidden in outcomes:
            seen = np.where(hidden, -1, table.people)
            same[seen.tobytes()].append(table.people)
    found = [99]
    for seen_bytes, possible in same.items():
        hidden = np.frombuffer(seen_bytes, dtype=np.int64).reshape(possible[0].shape) < 0
        if hidden.any():
            found.append(int((np.max(possible, axis=0) - np.min(possible, axis=0))[hidden].min()))
    return min(found)


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the linear programs: of one row they know no more than its sum."""
    monkeypatch.setattr(suppress, "narrow_cells", lambda table, *_: np.zeros(table.people.shape, dtype=bool))


@pytest.mark.usefixtures("one_row")
@pytest.mark.parametrize("labels", [2, 3])
def test_the_rules_tell_nothing_about_one_catalog(labels: int) -> None:
    assert min(narrowest((total,), labels) for total in range(2 * K, 7 * K)) >= K


@pytest.mark.usefixtures("one_row")
def test_they_would_if_the_fewest_people_were_always_suppressed() -> None:
    assert min(narrowest((total,), 3, cheapest=True) for total in range(2 * K, 7 * K)) < K


@pytest.mark.usefixtures("one_row")
def test_they_would_if_cells_were_unknown_within_k_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppress, "REACH", 1)
    assert min(narrowest((total,), 3) for total in range(2 * K, 7 * K)) < K


@pytest.mark.parametrize("totals", [(6, 7), (9, 9), (8, 11)])
def test_the_rules_tell_nothing_about_two_catalogs(totals: tuple[int, int]) -> None:
    assert narrowest(totals, 2) >= K
