"""Decides which cells of a table are suppressed."""

import numpy as np

from faceattr_udf.arrays import BoolArray
from faceattr_udf.publishing.audit import narrow_cells
from faceattr_udf.publishing.table import REACH, Table


def suppressed(table: Table, k: int, rng: np.random.Generator) -> BoolArray:
    """Returns which cells (R, L) are not published.

    These are cells of few people, and others without which the sums would give those back. The linear programs of
    `narrow_cells` have the last word: cells are added until no suppressed one can be worked out. That ends, because
    with all cells suppressed each can be anything from 0 to the total of its row.

    Args:
        table: The table.
        k: The fewest people that may be told.
        rng: Chooses the other cells. If the smallest were taken, those who know it could compare it with published ones
            and work out what stands beside it.
    """
    hidden = few_people(table, k)
    complete_lines(table, hidden, k, rng)
    while (narrow := narrow_cells(table, hidden, REACH * k)).any():
        row, column = rng.choice(np.argwhere(narrow))
        near = np.zeros_like(hidden)
        near[row], near[:, column] = True, True
        _ = _hide_another(table, hidden, near, rng) or _hide_another(table, hidden, np.ones_like(hidden), rng)
        complete_lines(table, hidden, k, rng)
    return hidden


def few_people(table: Table, k: int) -> BoolArray:
    """Returns which cells (R, L) are sensitive by themselves.

    These are cells of fewer than k people; zeros count as such where the row has fewer than 3 k people. And labels that
    all but fewer than k people of the row have, because they tell about everybody.
    """
    people, totals = table.people, table.totals[:, None]
    few = (people < k) & ((people > 0) | (totals < 3 * k))
    return np.asarray(few | ((people > 0) & (totals - people < k)))


def complete_lines(table: Table, hidden: BoolArray, k: int, rng: np.random.Generator) -> None:
    """Suppresses more cells, until no row or column alone gives one back.

    It leaves little to the linear programs, which see all rows and columns together.
    """
    lines = []
    for row in range(hidden.shape[0]):
        lines.append(np.zeros_like(hidden))
        lines[-1][row] = True
    for column in range(hidden.shape[1] if hidden.shape[0] > 1 else 0):
        lines.append(np.zeros_like(hidden))
        lines[-1][:, column] = True
    changed = True
    while changed:
        changed = False
        for line in lines:
            while _gives_back(table, hidden & line, k) and _hide_another(table, hidden, line, rng):
                changed = True


def _gives_back(table: Table, hidden: BoolArray, k: int) -> bool:
    """Checks whether the suppressed cells of one row or column are too few, or too small."""
    people = table.people[hidden]
    return bool(people.size == 1 or (people.size > 1 and people.sum() < REACH * k))


def _hide_another(table: Table, hidden: BoolArray, line: BoolArray, rng: np.random.Generator) -> bool:
    """Suppresses one published cell of a line, more likely one with few people; returns False if there is none.

    Sums over catalogs come after the cells of catalogs, and zeros, which hide nothing, last.
    """
    cells = np.argwhere(line & ~hidden)
    if not len(cells):
        return False
    people = table.people[tuple(cells.T)]
    is_sum = (cells[:, 0] == len(table.catalogs) - 1) & (cells[:, 0] > 0)
    rank = np.where(people == 0, 2, is_sum.astype(np.int64))
    best = rank == rank.min()
    chances = 1.0 / np.maximum(people[best], 1)
    hidden[tuple(cells[best][rng.choice(int(best.sum()), p=chances / chances.sum())])] = True
    return True
