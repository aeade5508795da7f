"""Hides small groups: a cell of three faces is close to three people."""

from collections.abc import Sequence


def hidden_cells(counts: Sequence[int], least: int) -> set[int]:
    """Returns the indices of the cells that are not shown.

    Cells below the minimum are hidden, except for empty ones. With them the next smallest cells are, until the hidden
    ones have the minimum together: what they have together follows from the total.

    >>> hidden_cells([40, 3, 12, 0], 10), hidden_cells([40, 3, 9, 0], 10), hidden_cells([40, 12], 10)
    ({1, 2}, {1, 2}, set())
    >>> hidden_cells([40, 1, 2, 12], 10), hidden_cells([3], 10)
    ({1, 2, 3}, {0})

    Args:
        counts: Faces or photographs of each cell; their sum is on the page.
        least: The minimum.
    """
    hidden = {index for index, count in enumerate(counts) if 0 < count < least}
    larger = sorted((count, index) for index, count in enumerate(counts) if count and index not in hidden)
    while hidden and larger and sum(counts[index] for index in hidden) < least:
        hidden.add(larger.pop(0)[1])
    return hidden
