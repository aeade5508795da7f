"""A folder becomes an images table, on both engines and in both formats; a second run adds only what is new."""

from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import Engine

from faceattr_udf.errors import BusyError, SchemaError, TableNotFoundError
from faceattr_udf.spark.ingestion import Ingestion, ingest
from faceattr_udf.spark.lease import Lease

Form = Literal["delta", "parquet"]


class Place:
    def __init__(self, engine: Engine, folder: Path, form: Form) -> None:
        self.engine, self.form = engine, form
        self.photos, self.images = folder / "my photos", folder / "images"
        self.photos.mkdir()

    def put(self, name: str, content: bytes) -> Path:
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def ingest(self) -> Ingestion:
        return ingest(self.engine.session, self.engine.config(), str(self.photos), str(self.images), self.form)

    def rows(self) -> dict[str, dict[str, Any]]:
        frame = self.engine.session.read.format(self.form).load(str(self.images))
        rows = [row.asDict() for row in frame.collect()]
        assert len({row["image_id"] for row in rows}) == len(rows)
        return {row["image_id"]: row | {"content": bytes(row["content"])} for row in rows}


@pytest.fixture(params=["delta", "parquet"])
def place(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return Place(engine, tmp_path, request.param)


def test_an_empty_folder_gives_an_empty_table(place: Place) -> None:
    done = place.ingest()
    assert (done.new, done.changed, done.unchanged, done.refused) == (0, 0, 0, {})
    assert place.rows() == {}


def test_pictures_of_all_folders_below_become_rows_and_other_files_do_not(place: Place) -> None:
    place.put("a.jpg", b"one")
    place.put("Ünï code/it's/b.PNG", b"two")
    place.put("empty.webp", b"")
    place.put("notes.txt", b"no picture")
    done = place.ingest()
    rows = place.rows()
    assert {name: row["content"] for name, row in rows.items()} == {
        "a.jpg": b"one",
        "Ünï code/it's/b.PNG": b"two",
        "empty.webp": b"",
    }
    assert all(row["content_sha256"] == sha256(row["content"]).hexdigest() for row in rows.values())
    assert all(row["size"] == len(row["content"]) for row in rows.values())
    assert rows["a.jpg"]["path"] == str(place.photos / "a.jpg")
    assert (done.new, done.bytes_written) == (3, 6)


def test_a_second_run_adds_what_is_new_and_replaces_what_has_changed(place: Place) -> None:
    place.put("same.jpg", b"same")
    place.put("other.jpg", b"before")
    place.ingest()
    place.put("other.jpg", b"after")
    place.put("sub/new.jpg", b"new")
    done = place.ingest()
    assert (done.new, done.changed, done.unchanged) == (1, 1, 1)
    assert {name: row["content"] for name, row in place.rows().items()} == {
        "same.jpg": b"same",
        "other.jpg": b"after",
        "sub/new.jpg": b"new",
    }
    done = place.ingest()
    assert (done.new, done.changed, done.unchanged, done.bytes_written) == (0, 0, 3, 0)
    assert not list(place.images.glob("**/_*.parquet"))
    assert not (place.images / "_ingest").exists()


def test_links_do_not_lead_out_of_the_folder_or_in_circles(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    inside = place.put("a.jpg", b"one")
    (place.photos / "inside.jpg").symlink_to(inside)
    (place.photos / "outside.jpg").symlink_to(secret)
    (place.photos / "circle").symlink_to(place.photos)
    done = place.ingest()
    assert set(place.rows()) == {"a.jpg", "inside.jpg"}
    assert sum(done.refused.values()) == 2


def test_a_folder_that_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(TableNotFoundError, match="nowhere does not exist"):
        ingest(place.engine.session, place.engine.config(), str(place.photos / "nowhere"), str(place.images))
    assert not place.images.exists()


def test_a_table_of_other_columns_is_not_touched(place: Place) -> None:
    place.engine.frame([("a", 1)], "image_id string, price int").write.format(place.form).save(str(place.images))
    place.put("a.jpg", b"one")
    with pytest.raises(SchemaError, match="price is not expected"):
        place.ingest()
    assert [tuple(row) for row in place.engine.session.read.format(place.form).load(str(place.images)).collect()] == [
        ("a", 1)
    ]


def test_an_existing_table_keeps_its_format(engine: Engine, tmp_path: Path) -> None:
    place = Place(engine, tmp_path, "parquet")
    place.put("a.jpg", b"one")
    place.ingest()
    place.put("b.jpg", b"two")
    asked_for_delta = ingest(engine.session, engine.config(), str(place.photos), str(place.images), "delta")
    assert asked_for_delta.table.format == "parquet"
    assert set(place.rows()) == {"a.jpg", "b.jpg"}


def test_what_a_killed_ingestion_has_left_is_removed(place: Place) -> None:
    place.put("a.jpg", b"one")
    place.ingest()
    left = place.images / ("_ingest" if place.form == "delta" else "") / "_part-1.parquet"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half a file")
    assert place.ingest().unchanged == 1
    assert not left.exists()
    assert set(place.rows()) == {"a.jpg"}


def test_one_that_was_killed_before_it_had_made_the_table(place: Place) -> None:
    place.put("a.jpg", b"one")
    (place.images / "_lease").mkdir(parents=True)
    (place.images / "_part-1.parquet").write_bytes(b"half a file")
    if place.form == "delta":
        (place.images / "_delta_log").mkdir()
    place.ingest()
    assert set(place.rows()) == {"a.jpg"}


def test_a_second_ingestion_is_refused_while_the_first_writes(place: Place) -> None:
    place.put("a.jpg", b"one")
    with (
        Lease(str(place.images), "jobs.ingest", 60),
        pytest.raises(BusyError, match=r"is being written by jobs\.ingest"),
    ):
        place.ingest()
    assert place.ingest().new == 1
