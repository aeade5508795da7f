"""One table of a period: people by catalog and label of one attribute, with the sums that are published beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from faceattr_udf.arrays import Int64Array

ALL: Final = "all"
"""The catalog of sums over all catalogs, and the attribute and label of a total."""

OTHER: Final = "(other)"
"""The catalog of all catalogs that have fewer than REACH * k people each."""

REACH: Final = 2
"""A suppressed cell must be unknown within REACH * k people for those who know only how tables add up.

Then it is unknown within k people for those who also know these rules: they can tell that suppressed cells are rarely
0, and that one of them has fewer than k people (tests/publishing/test_rules.py tries all small tables)."""


@dataclass(frozen=True, eq=False)
class Table:
    """People by catalog and label. Everybody knows how it adds up, and the totals of its rows are always published.

    Attributes:
        catalogs: The R rows. The last of several is `ALL`, their sum; a single one is its own sum.
        labels: The L columns.
        people: (R, L).
    """

    catalogs: tuple[str, ...]
    labels: tuple[str, ...]
    people: Int64Array

    @property
    def totals(self) -> Int64Array:
        """(R,), the people of each catalog."""
        return np.asarray(self.people.sum(axis=1))


def table_of(people: Mapping[str, Mapping[str, int]], labels: tuple[str, ...], k: int) -> Table | None:
    """Makes a table of people in which every row has REACH * k people or more.

    Catalogs of fewer people become one, `OTHER`. Where that one has fewer, too, it is left out, also of the sums.

    Args:
        people: Catalog -> label -> people.
        labels: The columns, with those that nobody has.
        k: People.

    Returns:
        The table; None if no row is left.
    """
    rows: dict[str, Int64Array] = {}
    for catalog, row in sorted(people.items()):
        counts = np.array([row.get(label, 0) for label in labels], dtype=np.int64)
        name = catalog if counts.sum() >= REACH * k else OTHER
        rows[name] = rows.get(name, np.zeros(len(labels), dtype=np.int64)) + counts
    rows = {name: counts for name, counts in rows.items() if counts.sum() >= REACH * k}
    if len(rows) > 1:
        rows[ALL] = np.sum(list(rows.values()), axis=0)
    return Table(tuple(rows), labels, np.stack(list(rows.values()))) if rows else None
