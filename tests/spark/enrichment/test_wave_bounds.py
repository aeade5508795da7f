"""Waves: whole files, whole groups of equal contents, and the sizes that they should have."""

from functools import reduce
from operator import or_

import pytest

from faceattr_udf.spark.enrichment import wave_bounds
from faceattr_udf.spark.enrichment.wave_bounds import IdRange, PlanSlice, next_wave, whole_groups


def part(file: str, first: str, last: str, n_images: int = 10) -> PlanSlice:
    return PlanSlice((file, first), (file, last), IdRange(first, last), n_images, files=frozenset([file]))


def waves(slices: list[PlanSlice], wanted: int, most: int) -> list[list[str]]:
    """Returns the files of every wave, one for each slice."""
    found = []
    while slices:
        taken = next_wave(slices, wanted, most)
        found.append([one.first[0] for one in slices[:taken]])
        slices = slices[taken:]
    return found


FILES = [part(file, f"{number}0", f"{number}9") for file in "abcd" for number in range(3)]


@pytest.mark.parametrize(
    ("wanted", "most", "expected"),
    [
        (120, 120, ["aaabbbcccddd"]),
        (60, 120, ["aaabbb", "cccddd"]),
        (59, 120, ["aaa", "bbb", "cccddd"]),  # the last ones together are few more than wanted
        (30, 30, ["aaa", "bbb", "ccc", "ddd"]),
        (10, 30, ["aaa", "bbb", "ccc", "ddd"]),  # a file is not divided for the first, small wave
        (20, 20, ["aa", "a", "bb", "b", "cc", "c", "dd", "d"]),  # it is where it holds more than a wave may
        (5, 5, list("aaabbbcccddd")),
    ],
)
def test_waves_end_with_files(wanted: int, most: int, expected: list[str]) -> None:
    assert ["".join(files) for files in waves(FILES, wanted, most)] == expected


def test_table_without_files_is_divided_by_image_id() -> None:
    slices = [part("", f"{number}0", f"{number}9") for number in range(6)]
    assert [len(files) for files in waves(slices, 40, 40)] == [4, 2]
    assert [len(files) for files in waves(slices, 20, 40)] == [2, 2, 2]
    assert [len(files) for files in waves(slices[:3], 20, 20)] == [2, 1]


def test_wave_names_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wave_bounds, "_MAX_FILES", 3)
    assert ["".join(files) for files in waves(FILES, 1_000, 1_000)] == ["aaabbbccc", "ddd"]


def test_images_of_one_place_stay_together() -> None:
    # The images of b5 are in two slices, and so in one after joining.
    slices = [part("b", "b5", "b9", 1), part("a", "a0", "a9", 2), part("b", "b0", "b5", 3), part("c", "c0", "c1", 4)]
    joined = whole_groups(slices)
    assert [(one.first, one.last, one.n_images) for one in joined] == [
        (("a", "a0"), ("a", "a9"), 2),
        (("b", "b0"), ("b", "b9"), 4),
        (("c", "c0"), ("c", "c1"), 4),
    ]
    assert [len(files) for files in waves(joined, 1, 1)] == [1, 1, 1]  # even where they are more than a wave may have


def test_ranges_of_joined_slices_are_around_all() -> None:
    one = PlanSlice(("a", "1"), ("a", "3"), IdRange("1", "8"), 3, 1, 3, 2, 1, IdRange("1", "2"), frozenset("a"))
    other = PlanSlice(("b", "4"), ("b", "6"), IdRange("0", "6"), 4, 0, 2, 1, 0, IdRange("5", "5"), frozenset("b"))
    third = PlanSlice(("c", "7"), ("c", "7"), IdRange("7", "7"), 1, reused=IdRange("x", "y"))
    assert reduce(or_, [one, other, third]) == PlanSlice(
        ("a", "1"), ("c", "7"), IdRange("0", "8"), 8, 1, 5, 3, 1, IdRange("1", "5"), frozenset("ab"), IdRange("x", "y")
    )
