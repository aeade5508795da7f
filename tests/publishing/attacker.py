"""An attacker who has every table that was ever published, and shares no code with what protects them.

The unknowns are people by catalog and all attributes at once, for each version of the tables. Constraints are the
published counts and corrected shares, and what the attacker supposes of people who came or went between two versions.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linprog

from faceattr_udf.publishing.release import Row

Cell = tuple[str, str, str]
"""Catalog, attribute, label."""

SHARE_ERROR = 0.00051
"""Published shares have three digits."""


class Attacker:
    """Knows the vocabulary, and by what published counts were corrected."""

    def __init__(self, labels: Mapping[str, tuple[str, ...]], weights: Mapping[str, np.ndarray], k: int) -> None:
        self._labels, self._weights, self._k = labels, weights, k

    def attack(self, versions: Sequence[Sequence[Row]], moved: int = 1) -> list[str]:
        """Returns what could be found out within k people.

        Args:
            versions: What was published in each night.
            moved: The attacker supposes that at most so many people came or went between two different versions.
        """
        distinct = [list(rows) for rows, _ in itertools.groupby(versions)]
        found = []
        for rows in distinct:
            found += [f"{cell} within a table" for cell in self._narrow([rows], moved)]
        for before, after in itertools.pairwise(distinct):
            found += [f"{cell} differs between nights" for cell in self._differences(before, after)]
            found += [f"{cell} by two nights" for cell in self._narrow([before, after], moved)]
        return found

    def _differences(self, before: list[Row], after: list[Row]) -> list[Cell]:
        counts = [{(r.catalog, r.attribute, r.label): r.n_people for r in rows} for rows in (before, after)]
        both = [(cell, counts[0][cell], counts[1].get(cell)) for cell in counts[0]]
        return [cell for cell, n, m in both if n is not None and m is not None and 0 < abs(n - m) < self._k]

    def _narrow(self, versions: list[list[Row]], moved: int) -> list[Cell]:
        """Returns the suppressed cells of the first version whose range is below k."""
        catalogs = [sorted({row.catalog for row in rows} - {"all"}) or ["all"] for rows in versions]
        if len(versions) > 1 and catalogs[0] != catalogs[1]:
            return []
        cubes = list(itertools.product(catalogs[0], *self._labels.values()))
        n, times = len(cubes), len(versions)
        # After the cubes of each version: who came, and who went.
        width = n * times + 2 * n * (times - 1)
        equal, right, below, limits = [], [], [], []
        for time, rows in enumerate(versions):
            for row in rows:
                used = self._members(cubes, (row.catalog, row.attribute, row.label), n * time, width)
                if row.n_people is not None:
                    equal.append(used)
                    right.append(row.n_people)
            for used, low, high in self._shares(rows, cubes, n * time, width):
                below += [used, -used]
                limits += [high, -low]
        if times > 1:
            for cube in range(n):
                step = np.zeros(width)
                step[[cube, n + cube, 2 * n + cube, 3 * n + cube]] = 1.0, -1.0, 1.0, -1.0
                equal.append(step)
                right.append(0.0)
            below.append(np.append(np.zeros(2 * n), np.ones(2 * n)))
            limits.append(moved)
        program = {
            "A_eq": np.array(equal),
            "b_eq": np.array(right),
            "A_ub": np.array(below) if below else None,
            "b_ub": np.array(limits) if limits else None,
            "bounds": (0, None),
        }
        found = []
        for row in versions[0]:
            cell = (row.catalog, row.attribute, row.label)
            if row.n_people is None:
                aim = self._members(cubes, cell, 0, width)
                lowest, highest = (linprog(sign * aim, **program) for sign in (1.0, -1.0))
                if lowest.status == 2:  # the attacker supposes something impossible
                    return []
                if np.floor(-highest.fun + 1e-6) - np.ceil(lowest.fun - 1e-6) < self._k:
                    found.append(cell)
        return found

    def _members(self, cubes: list[tuple[str, ...]], cell: Cell, start: int, width: int) -> np.ndarray:
        catalog, attribute, label = cell
        place = 1 + list(self._labels).index(attribute) if attribute != "all" else None
        used = np.zeros(width)
        for number, cube in enumerate(cubes):
            fits = catalog in {"all", cube[0]} and (place is None or cube[place] == label)
            used[start + number] = float(fits)
        return used

    def _shares(
        self, rows: list[Row], cubes: list[tuple[str, ...]], start: int, width: int
    ) -> list[tuple[np.ndarray, float, float]]:
        """Returns the bounds that corrected shares put on the people of a catalog."""
        totals = {row.catalog: row.n_people for row in rows if row.attribute == "all"}
        found = []
        for row in rows:
            mine = [other.share for other in rows if (other.catalog, other.attribute) == (row.catalog, row.attribute)]
            if row.share is None or 0.0 in mine:  # the projection may have moved those
                continue
            labels, total = self._labels[row.attribute], totals[row.catalog]
            assert total is not None
            used = np.zeros(width)
            for weight, label in zip(self._weights[row.attribute][labels.index(row.label)], labels, strict=True):
                used += weight * self._members(cubes, (row.catalog, row.attribute, label), start, width)
            found.append((used, (row.share - SHARE_ERROR) * total, (row.share + SHARE_ERROR) * total))
        return found
