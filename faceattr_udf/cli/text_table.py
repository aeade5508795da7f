"""Plain text tables for the terminal."""

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns rows as left-aligned columns.

    Args:
        header: One title per column.
        rows: As many cells each as there are titles.

    >>> print(text_table(("status", "images"), [("ok", "12"), ("no_face", "3")]))
    status   images
    ok       12
    no_face  3
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
