"""Conditions on ids that name no id: Delta's log and Spark's event log keep the text of every condition."""

import hashlib
from collections.abc import Iterable
from typing import Final

from faceattr_udf.spark.catalog_names import quoted

_HIDDEN: Final = 3
"""Characters of an id that a bound leaves out at least, beside the ending of a file's name."""

_GREATEST: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


def id_bounds(first: str, last: str) -> tuple[str, str | None]:
    """Returns bounds of all texts between two ids, as short as still tells these from most others.

    Args:
        first: The least id.
        last: The greatest one.

    Returns:
        The least text that is inside, and the least text that is beyond; the empty text and None where there is no
        bound.

    >>> id_bounds("photo-00017.jpg", "photo-00345.jpg"), id_bounds("photo-00017.jpg", "photo-00017.jpg")
    (('photo-00', 'photo-01'), ('photo-00', 'photo-01'))
    >>> id_bounds("a", "zebra")
    ('', None)
    """
    common = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    # The ending of a file's name hides nothing.
    shorter = min(len(text.rpartition(".")[0] or text) for text in (first, last))
    kept = max(0, min(common + 1, shorter - _HIDDEN))
    return first[:kept], _beyond(last[:kept])


def _beyond(prefix: str) -> str | None:
    """Returns the least text that is greater than all texts with a prefix; None if there is none."""
    while prefix and ord(prefix[-1]) == _GREATEST:
        prefix = prefix[:-1]
    if not prefix:
        return None
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def within(column: str, first: str, last: str) -> list[str]:
    """Returns conditions that all texts between two ids fulfil, as SQL.

    Args:
        column: The column as SQL.
        first: The least id.
        last: The greatest one.
    """
    least, beyond = id_bounds(first, last)
    conditions = [f"{column} >= {literal(least)}"] if least else []
    return conditions + ([f"{column} < {literal(beyond)}"] if beyond is not None else [])


def among(column: str, values: Iterable[str]) -> str:
    """Returns the condition that a text is one of some values, with their SHA-256 in place of them, as SQL."""
    known = sorted(set(values))
    digests = ", ".join(f"'{hashlib.sha256(value.encode()).hexdigest()}'" for value in known)
    name = quoted(column)
    near = within(name, known[0], known[-1]) if known else []
    # The bounds let the engine skip files. The embedded engine would take NULL for true.
    return " AND ".join([f"{name} IS NOT NULL", *near, f"sha2({name}, 256) IN ({digests})"])


def literal(text: str) -> str:
    """Returns a string as a SQL expression without any of its characters.

    Spark replaces `${...}` in the text of a statement before it parses it, quotes or not, and how a string is escaped
    depends on a setting. Digits mean the same everywhere.

    >>> literal("it's")
    "CAST(X'69742773' AS STRING)"
    """
    return f"CAST(X'{text.encode().hex()}' AS STRING)"
