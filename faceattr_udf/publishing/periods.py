"""Weeks and months: which of them are over, and may be published."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

PeriodKind = Literal["week", "month"]


@dataclass(frozen=True)
class Period:
    """What the faces tell about a period.

    Attributes:
        start: Its first day.
        processed: The UTC day on which its last face was analyzed.
        model_versions: Of its faces.
    """

    start: date
    processed: date
    model_versions: tuple[str, ...]


def first_day(day: str, kind: PeriodKind) -> date | None:
    """Returns the first day of the period of a day; None for a text that is no date.

    >>> first_day("2026-03-05", "month"), first_day("2026-03-05", "week"), first_day("unknown", "week")
    (datetime.date(2026, 3, 1), datetime.date(2026, 3, 2), None)
    """
    try:
        found = date.fromisoformat(day)
    except ValueError:
        return None
    return found.replace(day=1) if kind == "month" else date.fromordinal(max(found.toordinal() - found.weekday(), 1))


def end_of(start: date, kind: PeriodKind) -> date:
    """Returns the first day after a period.

    >>> end_of(date(2026, 2, 1), "month"), end_of(date(2026, 3, 2), "week")
    (datetime.date(2026, 3, 1), datetime.date(2026, 3, 9))
    """
    return start + timedelta(days=7) if kind == "week" else (start + timedelta(days=31)).replace(day=1)


@dataclass(frozen=True)
class Choice:
    """What happens to the periods.

    Attributes:
        due: They are published now.
        open: They are not over, or still get faces.
        mixed: They are over, but hold faces of several model versions, which are never summed.
        frozen: They were published, and stay as they are.
    """

    due: tuple[Period, ...]
    open: tuple[Period, ...]
    mixed: tuple[Period, ...]
    frozen: tuple[Period, ...]


def choose(
    periods: Collection[Period], published: Collection[date], today: date, kind: PeriodKind, wait_days: int
) -> Choice:
    """Decides which periods are published.

    A period that was published never changes. If it followed every late photograph and every erasure, the difference of
    two nights would tell about the few people who came or went.

    Args:
        periods: All periods of the faces.
        published: The first days of periods that were published.
        today: The current UTC day.
        kind: Weeks or months.
        wait_days: Days that pass after the end of a period, and after its last face was analyzed.
    """
    wait = timedelta(days=wait_days)
    parts: dict[str, list[Period]] = {"due": [], "open": [], "mixed": [], "frozen": []}
    for period in sorted(periods, key=lambda one: one.start):
        if period.start in published:
            parts["frozen"].append(period)
        elif max(end_of(period.start, kind), period.processed) + wait > today:
            parts["open"].append(period)
        else:
            parts["due" if len(period.model_versions) == 1 else "mixed"].append(period)
    return Choice(**{name: tuple(found) for name, found in parts.items()})
