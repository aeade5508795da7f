"""Names of tables in a catalog: `table`, `schema.table` or `catalog.schema.table`.

A part may be quoted by backticks, and then contain any character. Without them it consists of letters, digits,
underscores and hyphens, which Unity Catalog allows although Spark's SQL asks for quotes.
"""

import re
from typing import Final

_PART: Final = re.compile(r"`((?:[^`]|``)+)`|([\w-]+)")
_MAX_PARTS: Final = 3


def split_name(name: str) -> tuple[str, ...] | None:
    """Returns the one to three parts of a name without their quotes, or None if it is not a name.

    >>> split_name("prod-eu.db.faces"), split_name("`a.b`.faces"), split_name("s3://bucket/faces"), split_name("a..b")
    (('prod-eu', 'db', 'faces'), ('a.b', 'faces'), None, None)
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(name, position):
        parts.append(match[1].replace("``", "`") if match[1] else match[2])
        position = match.end()
        if position == len(name):
            return tuple(parts) if len(parts) <= _MAX_PARTS else None
        if name[position] != ".":
            return None
        position += 1
    return None


def quoted(name: str) -> str:
    """Returns one part of a name, or a column's name, as a quoted SQL identifier.

    >>> quoted("odd`name")
    '`odd``name`'
    """
    return "`" + name.replace("`", "``") + "`"


def quoted_name(name: str) -> str:
    """Returns a name as SQL, with every part quoted.

    >>> quoted_name("prod-eu.db.faces")
    '`prod-eu`.`db`.`faces`'
    """
    return ".".join(quoted(part) for part in split_name(name) or (name,))
