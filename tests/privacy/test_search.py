"""The search finds a planted id wherever files can hold one, and takes no other id for it."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from faceattr_udf.privacy.search import Needles, SearchReport, search

ID = 'x/it\'s "ü" \\ 4711.jpg'
PLAIN = "shop/4711.jpg"


def found(folder: Path, *values: str, columns: tuple[str, ...] = ("image_id",)) -> SearchReport:
    report = SearchReport()
    search(fs.LocalFileSystem(), str(folder), Needles(values, columns), report, skip=("_erasure",))
    return report


def stats(image_id: str) -> str:
    return json.dumps({"add": {"path": "p", "stats": json.dumps({"minValues": {"image_id": image_id}})}})


def parquet(path: Path, values: pa.Array, name: str = "image_id") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: values}), path)


PLACES: dict[str, Callable[[Path, str], object]] = {
    "column": lambda folder, one: parquet(folder / "a.parquet", pa.array(["before", one, "zz"])),
    "dictionary": lambda folder, one: parquet(folder / "a.parquet", pa.array(["b", one]).dictionary_encode()),
    "struct": lambda folder, one: parquet(folder / "a.parquet", pa.array([{"deep": {"er": one}}]), "s"),
    "list": lambda folder, one: parquet(folder / "a.parquet", pa.array([["b"], [one]]), "l"),
    "map": lambda folder, one: parquet(
        folder / "a.parquet", pa.array([[("k", one)]], pa.map_(pa.string(), pa.string())), "m"
    ),
    "large string": lambda folder, one: parquet(folder / "a.parquet", pa.array([one], pa.large_string())),
    "staging": lambda folder, one: parquet(folder / "_staging" / "run" / "a.parquet", pa.array([one])),
    "log": lambda folder, one: _text(folder / "_delta_log" / "0.json", stats(one)),
    "checksum": lambda folder, one: _text(folder / "_delta_log" / "0.crc", stats(one)),
    "condition": lambda folder, one: _text(folder / "_delta_log" / "1.json", json.dumps({"p": f"id IN ('{one}')"})),
    "checkpoint": lambda folder, one: parquet(
        folder / "_delta_log" / "0.checkpoint.parquet",
        pa.array([{"stats": json.loads(stats(one))["add"]["stats"]}]),
        "add",
    ),
    "report": lambda folder, one: _text(folder / "report.csv", f"id,age\n{one},3\n"),
    "file with no suffix": lambda folder, one: _text(folder / "notes", one),
}


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("image_id", [ID, PLAIN, "four"])
def test_planted_id_is_found(tmp_path: Path, place: str, image_id: str) -> None:
    PLACES[place](tmp_path, image_id)
    report = found(tmp_path, image_id, "another one")
    assert (report.files, len(report.hits), report.unreadable) == (1, 1, [])
    assert report.log_files == ("_delta_log" in report.hits[0])
    for other in (f"a{image_id}", f"{image_id}.png", f"{image_id}/b.jpg", f"folder/{image_id}", image_id[:-1]):
        assert found(tmp_path, other).hits == []


def test_footer_alone_is_found(tmp_path: Path) -> None:
    # Of a file whose rows are elsewhere: a value that only the statistics still hold cannot be written with Arrow, so
    # the writer's own words stand for it.
    table = pa.table({"n": [1]}).replace_schema_metadata({"from": f'{{"id": "{PLAIN}"}}'})
    pq.write_table(table, tmp_path / "a.parquet")
    assert len(found(tmp_path, PLAIN).hits) == 1


def test_name_of_a_partition_is_found(tmp_path: Path) -> None:
    parquet(tmp_path / "subject_id=me%20myself" / "a.parquet", pa.array(["b"]))
    assert len(found(tmp_path, "me myself").hits) == 1
    assert found(tmp_path, "myself").hits == []


def test_short_ids_and_numbers_are_found_in_columns_of_ids_alone(tmp_path: Path) -> None:
    columns = ("image_id", "subject_id")
    pq.write_table(pa.table({"subject_id": [7], "n": [8]}), tmp_path / "a.parquet")
    _text(tmp_path / "_delta_log" / "0.json", json.dumps({"stats": json.dumps({"subject_id": 6, "n": 8})}))
    _text(tmp_path / "_delta_log" / "1.json", stats("ab"))
    hits = {
        one: [Path(hit).name for hit in found(tmp_path, one, columns=columns).hits] for one in ("6", "7", "8", "ab")
    }
    assert hits == {"6": ["0.json"], "7": ["a.parquet"], "8": [], "ab": ["1.json"]}
    assert Needles(["7", "long enough"], columns).n_short == 1


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    _text(tmp_path / "a.parquet", "PAR1 broken")
    _text(tmp_path / "_erasure" / "request.json", PLAIN)
    report = found(tmp_path, PLAIN)
    assert [Path(path).name for path in report.unreadable] == ["a.parquet"]
    assert report.hits == []
    assert found(tmp_path / "absent", PLAIN).files == 0


@given(st.text(min_size=4, max_size=20).filter(lambda text: text.isprintable() and text.strip("=/") != ""))
def test_any_id_is_found_in_a_log(image_id: str) -> None:
    needles = Needles([image_id], ["image_id"])
    assert needles.in_text(stats(image_id).encode())
    assert needles.in_text(json.dumps({"id": image_id}, ensure_ascii=False).encode())
    if image_id in {"image_id", "minValues", "stats", "path"}:  # words of the log
        return
    if image_id[0] in '"\\':  # what stands before an escaped character looks like its escape: too much is found
        return
    assert not needles.in_text(stats(f"x{image_id}").encode())
    assert not needles.in_text(stats(f"{image_id}é").encode())
