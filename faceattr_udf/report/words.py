"""Numbers and names as the page writes them."""

from datetime import datetime
from typing import Final

from faceattr_udf.sanitize import printable

SPACE: Final = "\N{NO-BREAK SPACE}"
MINUS: Final = "\N{MINUS SIGN}"
_NAME_LENGTH: Final = 40


def count(number: float, one: str = "", many: str = "") -> str:
    """Returns a count, with its noun where one is given.

    >>> count(12345), count(1, "face"), count(2, "face"), count(0, "person", "people")
    ('12,345', '1 face', '2 faces', '0 people')
    """
    noun = (one if number == 1 else many or f"{one}s") if one else ""
    return f"{number:,.0f} {noun}".rstrip()


def percent(share: float | None, digits: int = 1) -> str:
    r"""Returns a share in percent.

    >>> percent(0.1234), percent(None)
    ('12.3\xa0%', '')
    """
    return "" if share is None else f"{100 * share:.{digits}f}{SPACE}%"


def points(change: float) -> str:
    """Returns a change of a share in points.

    >>> points(0.05), points(-0.0123) == f"{MINUS}1.2"
    ('+5.0', True)
    """
    return f"{100 * change:+.1f}".replace("-", MINUS)


def interval(low: float | None, high: float | None) -> str:
    r"""Returns an interval of shares in percent; empty where there is none.

    >>> interval(0.1, 0.25), interval(None, None)
    ('10.0 to 25.0\xa0%', '')
    """
    return "" if low is None or high is None else f"{100 * low:.1f} to {percent(high)}"


def label(name: str) -> str:
    r"""Returns a label or a name as one line of printable text of bounded length.

    >>> label("middle_eastern"), label("a\u202eb"), len(label("x" * 1000))
    ('middle eastern', 'a\\u202eb', 40)
    """
    text = printable(name.replace("_", " "))
    return text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 1]}…"


def moment(time: datetime | None) -> str:
    """Returns a time in UTC.

    >>> moment(datetime(2026, 3, 9, 1, 5)), moment(None)
    ('2026-03-09 01:05', '')
    """
    return "" if time is None else f"{time:%Y-%m-%d %H:%M}"
