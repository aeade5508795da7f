"""Makes the rows that are published of one period."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from faceattr_udf.arrays import BoolArray
from faceattr_udf.publishing.suppress import suppressed
from faceattr_udf.publishing.table import ALL, Table, table_of
from faceattr_udf.shares.correct import CorrectedShares, Sums, correct
from faceattr_udf.shares.statistics import POOLED, AttributeStatistics

UNKNOWN: Final = "unknown"
"""The label of people for whom the attribute was not predicted."""

MIN_PEOPLE: Final = 100
"""Below it, shares are not corrected: their intervals would be wider than what they tell."""

_DIGITS: Final = 3

People = Mapping[str, Mapping[str, int]]
"""Catalog -> label -> people."""


@dataclass(frozen=True)
class Row:
    """One published cell.

    Attributes:
        catalog: The catalog; `ALL` for all of them, `OTHER` for those of few people.
        attribute: The attribute; `ALL` for a total.
        label: The label; `ALL` for a total.
        n_people: The people; None where they are suppressed.
        counted_share: Their share of the people of the catalog; None where they are suppressed.
        share: The corrected share; None where a label of the catalog is suppressed or nothing can be corrected.
        low: Its 95 % interval.
        high: Its 95 % interval.
    """

    catalog: str
    attribute: str
    label: str
    n_people: int | None
    counted_share: float | None
    share: float | None = None
    low: float | None = None
    high: float | None = None


def release(
    people: Mapping[str, People],
    labels: Mapping[str, tuple[str, ...]],
    k: int,
    statistics: Mapping[str, AttributeStatistics],
    rng: np.random.Generator | None = None,
) -> list[Row]:
    """Returns the rows of a period: none if it has fewer than REACH * k people.

    Tables of several attributes share the totals of their catalogs and nothing else. Because totals are always
    published, and any two tables with equal totals are possible together, one table tells nothing about another.

    Args:
        people: Attribute -> its people; every person is counted once in each attribute.
        labels: Attribute -> its labels.
        k: The fewest people that may be told.
        statistics: Attribute -> how to correct it; may lack attributes.
        rng: Chooses among cells that could be suppressed; None: one that nobody can repeat.
    """
    rng = rng or np.random.default_rng()
    rows: list[Row] = []
    for attribute, names in labels.items():
        counted = people[attribute]
        unknown = any(row.get(UNKNOWN) for row in counted.values())
        table = table_of(counted, (*names, UNKNOWN) if unknown else names, k)
        if table is None:
            return []
        if not rows:
            totals = zip(table.catalogs, table.totals.tolist(), strict=True)
            rows += [Row(catalog, ALL, ALL, total, 1.0) for catalog, total in totals]
        rows += _rows(attribute, table, suppressed(table, k, rng), statistics.get(attribute))
    return rows


def _rows(attribute: str, table: Table, hidden: BoolArray, statistics: AttributeStatistics | None) -> Iterator[Row]:
    for row, catalog in enumerate(table.catalogs):
        corrected = corrected_shares(table.people[row], hidden[row], statistics)
        total = table.totals[row]
        for column, label in enumerate(table.labels):
            n_people = None if hidden[row, column] else int(table.people[row, column])
            counted = None if n_people is None else round(n_people / float(total), _DIGITS)
            if corrected is None or label == UNKNOWN:
                yield Row(catalog, attribute, label, n_people, counted)
                continue
            low = corrected.low if corrected.low_transfer is None else corrected.low_transfer
            high = corrected.high if corrected.high_transfer is None else corrected.high_transfer
            found = (round(float(values[column]), _DIGITS) for values in (corrected.share, low, high))
            yield Row(catalog, attribute, label, n_people, counted, *found)


def corrected_shares(
    people: np.ndarray, hidden: BoolArray, statistics: AttributeStatistics | None
) -> CorrectedShares | None:
    """Corrects the shares of one row from its published counts, so that they tell nothing more.

    Corrected shares are linear in the counts: those of a row with suppressed labels would give these back.

    Args:
        people: (L,), in the order of the statistics' labels, then `UNKNOWN` if there is such a column.
        hidden: (L,), what is suppressed.
        statistics: None: nothing is corrected.
    """
    if statistics is None or hidden.any():
        return None
    known = people[: len(statistics.labels)].astype(np.float64)
    if known.sum() < MIN_PEOPLE:
        return None
    # The products serve samples of an audience, of which nothing is told here.
    sums = Sums(known, np.zeros((known.size, known.size)))
    return correct(statistics, {("acc", POOLED): sums}, "catalogue")
