"""The parts of the page."""

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Table:
    """The numbers of a figure.

    Attributes:
        columns: The names; the first column has names, the others numbers or short texts.
        rows: One text per column.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Unique on the page; letters and hyphens.
        title: What it shows.
        finding: What the data say, in one sentence.
        svg: The picture, which has its text alternative.
        table: Its numbers.
        notes: What one has to know to read it.
        tall: Whether it stands beside two others where there is room.
    """

    name: str
    title: str
    finding: str
    svg: Markup
    table: Table
    notes: tuple[str, ...] = ()
    tall: bool = False


@dataclass(frozen=True)
class Section:
    """Figures under one heading.

    Attributes:
        name: Unique on the page.
        title: The heading.
        figures: The figures.
        notes: Sentences about what is not shown, and why.
    """

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
