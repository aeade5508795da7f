"""Where a wave ends: it takes whole files of the images table, so that every file is read by one wave."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MAX_FILES: Final = 2_000
"""The files of a wave are named in a query."""

_TAIL: Final = 1.25
"""A wave may be this much larger if the run ends with it: a few images alone would cost as much as a wave."""

Place = tuple[str, str]
"""A file and the image_id of an image to infer; the images of a plan are sorted by it."""


@dataclass(frozen=True)
class IdRange:
    """The smallest and the largest of some image_ids."""

    first: str
    last: str

    def __or__(self, other: "IdRange") -> "IdRange":
        """Returns the range around both."""
        return IdRange(min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True)
class PlanSlice:
    """Consecutive images of a plan.

    Attributes:
        first: Place of the first image.
        last: Place of the last one.
        ids: Their image_ids.
        n_images: Their number.
        n_described: How many of them have rows in the faces table.
        n_known: How many of them have a row in image_results.
        n_sources: How many of them are inferred, if their contents are there.
        n_by_content: How many of those their image_id alone does not identify.
        sources: The image_ids of those that are inferred.
        files: Their files.
        reused: The image_ids whose results are reused.
    """

    first: Place
    last: Place
    ids: IdRange
    n_images: int
    n_described: int = 0
    n_known: int = 0
    n_sources: int = 0
    n_by_content: int = 0
    sources: IdRange | None = None
    files: frozenset[str] = frozenset()
    reused: IdRange | None = None

    def __or__(self, other: "PlanSlice") -> "PlanSlice":
        """Returns the slice with the images of both."""
        return PlanSlice(
            min(self.first, other.first),
            max(self.last, other.last),
            self.ids | other.ids,
            self.n_images + other.n_images,
            self.n_described + other.n_described,
            self.n_known + other.n_known,
            self.n_sources + other.n_sources,
            self.n_by_content + other.n_by_content,
            _around(self.sources, other.sources),
            self.files | other.files,
            _around(self.reused, other.reused),
        )


def _around(one: IdRange | None, other: IdRange | None) -> IdRange | None:
    return one | other if one and other else one or other


def whole_groups(slices: Sequence[PlanSlice]) -> list[PlanSlice]:
    """Returns slices in the plan's order, so joined that the images of one place are never in two of them.

    Images with the same content have the place of the first of them, so a content is inferred in one wave.
    """
    joined: list[PlanSlice] = []
    for one in sorted(slices, key=lambda part: (part.first, part.last)):
        if joined and one.first <= joined[-1].last:
            joined[-1] |= one
        else:
            joined.append(one)
    return joined


def next_wave(slices: Sequence[PlanSlice], wanted: int, most: int) -> int:
    """Returns how many of the slices the next wave takes.

    It ends where a file ends: before `wanted` images are too many, or else behind the first file. Only a file with more
    than `most` images is divided. Where the files are not known, their names are empty, and it ends anywhere.

    Args:
        slices: What is left, from `whole_groups`; at least one.
        wanted: Images that the wave should have.
        most: Images that it may have.

    Returns:
        At least 1.
    """
    n_left = sum(one.n_images for one in slices)
    if n_left <= most and n_left <= _TAIL * wanted and len(_files(slices)) <= _MAX_FILES:
        return len(slices)
    n_images, whole, fitting = 0, 0, 0
    files: set[str] = set()
    for number, one in enumerate(slices, start=1):
        n_images += one.n_images
        files |= one.files
        if number > 1 and (n_images > most or len(files) > _MAX_FILES):
            break
        fits = n_images <= min(wanted, most)
        if fits:
            fitting = number
        elif whole:
            break
        file = one.last[0]
        if not file or number == len(slices) or slices[number].first[0] != file:
            whole = number
            if not fits:
                break
    return whole or fitting or 1


def _files(slices: Sequence[PlanSlice]) -> frozenset[str]:
    return frozenset().union(*(one.files for one in slices))
