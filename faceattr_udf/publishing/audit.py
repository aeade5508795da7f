"""What an attacker can work out: the range of every suppressed cell, by linear programming."""

from typing import Final

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, vstack

from faceattr_udf.arrays import BoolArray, Float64Array
from faceattr_udf.publishing.table import Table

_TOLERANCE: Final = 1e-6
_CORNERS: Final = 12


def narrow_cells(table: Table, hidden: BoolArray, reach: int) -> BoolArray:
    """Returns which suppressed cells (R, L) can be worked out within `reach` people.

    The attacker knows the published cells, all totals, how cells add up, and that none is negative. The lowest and the
    highest value that a suppressed cell can then have are a linear program each (Fischetti and Salazar 2000, "Models
    and Algorithms for Optimizing Cell Suppression in Tabular Data with Linear Constraints"). A cell is safe if the two
    are `reach` or more apart.

    Args:
        table: The table.
        hidden: (R, L), whether a cell is suppressed.
        reach: People.
    """
    narrow = np.zeros_like(hidden)
    if hidden.any():
        matrix, right = _equations(table, hidden)
        narrow[hidden] = _ranges(matrix, right, table.people[hidden].astype(np.float64), reach) < reach
    return narrow


def _equations(table: Table, hidden: BoolArray) -> tuple[csr_array, Float64Array]:
    """Returns how suppressed cells add up: matrix @ cells = right, one row for each row and column of the table."""
    rows, columns = np.nonzero(hidden)
    known = np.where(hidden, 0, table.people)
    n_rows, n_labels = hidden.shape
    ones, cells = np.ones(len(rows)), np.arange(len(rows))
    matrix = csr_array((ones, (rows, cells)), shape=(n_rows, len(rows)))
    right = (table.totals - known.sum(axis=1)).astype(np.float64)
    if n_rows > 1:  # catalogs less their sum are zero
        signs = np.append(np.ones(n_rows - 1), -1.0)
        down = csr_array((signs[rows], (columns, cells)), shape=(n_labels, len(rows)))
        matrix = csr_array(vstack([matrix, down]))
        right = np.append(right, -signs @ known)
    used = np.diff(matrix.indptr) > 0
    return matrix[used], right[used]


def _ranges(matrix: csr_array, right: Float64Array, truth: Float64Array, reach: int) -> Float64Array:
    """Returns how far apart the lowest and highest whole number of each cell are; not exact from `reach` on."""
    low, high = truth.copy(), truth.copy()

    def ranges() -> Float64Array:
        return np.asarray(np.floor(high + _TOLERANCE) - np.ceil(low - _TOLERANCE))

    def widen(aim: Float64Array) -> None:
        """Minimizes aim @ cells. Each solution is possible for the attacker, so it widens the ranges of all cells."""
        solved = linprog(aim, A_eq=matrix, b_eq=right, bounds=(0, None), method="highs")
        if solved.x is None:  # the truth is a solution, and totals bound every cell
            msg = f"the linear program of a table failed: {solved.message}"
            raise RuntimeError(msg)
        np.minimum(low, solved.x, out=low)
        np.maximum(high, solved.x, out=high)

    # A few corners that lie anywhere show of most cells that they are safe. The others need programs of their own.
    rng = np.random.default_rng(0)
    for _ in range(_CORNERS):
        narrow = ranges() < reach
        if narrow.sum() > _CORNERS:
            widen(np.where(narrow, rng.choice([-1.0, 1.0], truth.size), 0.0))
    for cell in range(truth.size):
        for sign in (-1.0, 1.0):
            if ranges()[cell] < reach:
                widen(sign * np.eye(1, truth.size, cell)[0])
    return ranges()
