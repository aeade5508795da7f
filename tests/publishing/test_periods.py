"""Which periods are published: those that are over and quiet, of one model, and never twice."""

from datetime import date

import pytest

from faceattr_udf.publishing.periods import Period, PeriodKind, choose

JANUARY, QUIET = date(2026, 1, 1), date(2026, 1, 31)


@pytest.mark.parametrize(
    ("processed", "versions", "published", "today", "outcome"),
    [
        (QUIET, ("m",), (), date(2026, 2, 7), "open"),
        (QUIET, ("m",), (), date(2026, 2, 8), "due"),
        (date(2026, 2, 2), ("m",), (), date(2026, 2, 8), "open"),  # a late photograph
        (date(2026, 2, 2), ("m",), (), date(2026, 2, 9), "due"),
        (QUIET, ("m", "n"), (), date(2026, 2, 8), "mixed"),
        (QUIET, ("m",), (JANUARY,), date(2026, 2, 8), "frozen"),
        (date(2026, 3, 1), ("m", "n"), (JANUARY,), date(2026, 3, 1), "frozen"),
    ],
)
def test_choice(
    processed: date, versions: tuple[str, ...], published: tuple[date, ...], today: date, outcome: str
) -> None:
    period = Period(JANUARY, processed, versions)
    choice = choose([period], published, today, "month", wait_days=7)
    assert getattr(choice, outcome) == (period,)
    assert len(choice.due + choice.open + choice.mixed + choice.frozen) == 1


@pytest.mark.parametrize(("kind", "start"), [("week", date(2026, 1, 5)), ("month", date(2025, 12, 1))])
def test_a_period_ends_before_the_next_begins(kind: PeriodKind, start: date) -> None:
    period = Period(start, start, ("m",))
    end = date(2026, 1, 12) if kind == "week" else JANUARY
    assert choose([period], (), date.fromordinal(end.toordinal() - 1), kind, wait_days=0).open
    assert choose([period], (), end, kind, wait_days=0).due
