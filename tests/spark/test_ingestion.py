"""A folder becomes an images table, on both engines and in both formats; a second run adds only what is new."""

import os
import socket
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import Engine
from fakes import content, provider

from faceattr_udf.errors import BusyError, SchemaError, TableNotFoundError
from faceattr_udf.spark import ingestion
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.ingestion import Ingestion, ingest
from faceattr_udf.spark.lease import Lease
from jobs import ingest as job

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

    def ingest(self, *overrides: str) -> Ingestion:
        config = self.engine.config(*overrides)
        return ingest(self.engine.session, config, str(self.photos), str(self.images), self.form)

    def rows(self) -> dict[str, dict[str, Any]]:
        frame = self.engine.session.read.format(self.form).load(str(self.images))
        rows = [row.asDict() for row in frame.collect()]
        assert len({row["image_id"] for row in rows}) == len(rows)
        return {row["image_id"]: row | {"content": row["content"] and bytes(row["content"])} for row in rows}


@pytest.fixture(params=["delta", "parquet"])
def place(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """On each engine that the test is marked for, in both formats."""
    return Place(engine, tmp_path, request.param)


@pytest.fixture
def sail_place(sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """For what is decided before a file reaches an engine."""
    sail_engine.select(monkeypatch)
    return Place(sail_engine, tmp_path, "delta")


@pytest.mark.on_spark
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


@pytest.mark.on_spark
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


def test_links_do_not_lead_out_of_the_folder_or_in_circles(sail_place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    inside = sail_place.put("a.jpg", b"one")
    (sail_place.photos / "inside.jpg").symlink_to(inside)
    (sail_place.photos / "outside.jpg").symlink_to(secret)
    (sail_place.photos / "circle").symlink_to(sail_place.photos)
    done = sail_place.ingest()
    assert set(sail_place.rows()) == {"a.jpg", "inside.jpg"}
    assert sum(done.refused.values()) == 2


def test_a_folder_that_is_not_there_is_named(sail_place: Place) -> None:
    with pytest.raises(TableNotFoundError, match="nowhere does not exist"):
        ingest(
            sail_place.engine.session,
            sail_place.engine.config(),
            str(sail_place.photos / "nowhere"),
            str(sail_place.images),
        )
    assert not sail_place.images.exists()


@pytest.mark.on_spark
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


def test_a_second_ingestion_is_refused_while_the_first_writes(sail_place: Place) -> None:
    sail_place.put("a.jpg", b"one")
    with (
        Lease(str(sail_place.images), "jobs.ingest", 60),
        pytest.raises(BusyError, match=r"is being written by jobs\.ingest"),
    ):
        sail_place.ingest()
    assert sail_place.ingest().new == 1


HUGE = 2**36
"""64 GiB, all of it a hole in the file: whoever reads it fails."""


def test_a_file_beyond_the_bound_has_a_row_without_content_and_is_never_read(place: Place) -> None:
    os.truncate(place.put("huge.tif", b""), HUGE)
    place.put("small.jpg", b"one")
    done = place.ingest()
    assert (done.new, done.too_large, done.refused, done.bytes_written) == (2, 1, {}, 3)
    huge = place.rows()["huge.tif"]
    assert (huge["content"], huge["content_sha256"], huge["size"]) == (None, None, HUGE)
    done = place.ingest()
    assert (done.new, done.changed, done.unchanged, done.too_large) == (0, 0, 2, 0)


def test_the_bound_is_the_last_size_that_is_read_and_a_file_may_cross_it_both_ways(sail_place: Place) -> None:
    sail_place.put("a.jpg", b"12345")
    assert sail_place.ingest("images.max_bytes=5").too_large == 0
    sail_place.put("a.jpg", b"123456")
    done = sail_place.ingest("images.max_bytes=5")
    assert (done.changed, done.too_large) == (1, 1)
    assert sail_place.rows()["a.jpg"]["content"] is None
    sail_place.put("a.jpg", b"1234567")
    assert sail_place.ingest("images.max_bytes=5").changed == 1
    assert sail_place.rows()["a.jpg"]["size"] == 7
    done = sail_place.ingest("images.max_bytes=7")
    assert (done.changed, done.too_large) == (1, 0)
    assert sail_place.rows()["a.jpg"]["content"] == b"1234567"


def test_a_file_beyond_the_bound_is_too_large_in_the_results(place: Place, tmp_path: Path) -> None:
    os.truncate(place.put("huge.tif", b""), HUGE)
    place.put("a.jpg", content(1))
    place.ingest()
    config = place.engine.config()
    for changed in (2, 0):
        run = enrich(
            place.engine.session, config, str(place.images), str(tmp_path / "out"), provider=provider(tmp_path / "seen")
        )
        assert run.n_images == changed
    results = {row["image_id"]: row for row in place.engine.read(tmp_path / "out" / "image_results").collect()}
    assert (results["a.jpg"]["status"], results["a.jpg"]["error"]) == ("ok", None)
    assert results["huge.tif"]["status"] == "too_large"
    assert results["huge.tif"]["error"] == f"{HUGE} bytes are more than images.max_bytes = {config.images.max_bytes}"


def test_the_job_says_how_many_files_were_too_large_and_refused(
    sail_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(sail_engine, tmp_path, "delta")
    os.truncate(place.put("huge.tif", b""), HUGE)
    os.mkfifo(place.photos / "pipe.jpg")
    assert job.main(["--input", str(place.photos), "--images", str(place.images)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("1 new, 0 changed, 0 unchanged images; 0.0 MiB")
    bound = sail_engine.config().images.max_bytes
    assert printed[1] == f"1 of them without content: larger than images.max_bytes = {bound}"
    assert printed[2] == "1 files refused: not a regular file"


def test_pipes_sockets_and_devices_are_refused_and_nothing_waits_for_them(sail_place: Place) -> None:
    sail_place.put("a.jpg", b"one")
    os.mkfifo(sail_place.photos / "pipe.jpg")
    expected = 2
    listening = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(sail_place.photos)  # the address of a socket has at most 108 bytes
    try:
        listening.bind("socket.jpg")
    finally:
        os.chdir(here)
        listening.close()
    with suppress(PermissionError):  # only an administrator may
        os.mknod(sail_place.photos / "zero.jpg", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        expected += 1
    (sail_place.photos / "folder.jpg").mkdir()
    done = sail_place.ingest()
    assert set(sail_place.rows()) == {"a.jpg"}
    assert done.refused == {"not a regular file": expected}


def test_a_pipe_that_takes_the_place_of_a_file_is_refused(sail_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sail_place.put("a.jpg", b"one")
    opened = os.open

    def swapped(name: Any, *arguments: Any, **options: Any) -> int:
        if name == path.name:
            path.unlink()
            os.mkfifo(path)
        return opened(name, *arguments, **options)

    monkeypatch.setattr(os, "open", swapped)
    assert sail_place.ingest().refused == {"not a regular file": 1}


@pytest.mark.parametrize("becomes", [b"one and more", b"on", b"two"])
def test_a_file_that_changes_while_it_is_read_is_taken_by_the_next_run(
    sail_place: Place, monkeypatch: pytest.MonkeyPatch, becomes: bytes
) -> None:
    path = sail_place.put("a.jpg", b"one")
    os.utime(path, (1, 1))
    measured, looks = os.fstat, []

    def changing(descriptor: int) -> os.stat_result:
        found = measured(descriptor)
        if os.path.samestat(found, path.stat()):
            looks.append(found)
            if len(looks) == 2:  # the first look is for what kind of file it is, the second for its size
                path.write_bytes(becomes)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", changing)
        done = sail_place.ingest()
    assert (done.new, done.refused) == (0, {"changed while it was read": 1})
    assert sail_place.ingest().new == 1
    assert sail_place.rows()["a.jpg"]["content"] == becomes


def test_a_file_that_vanishes_before_it_is_read_is_refused(sail_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sail_place.put("a.jpg", b"one")
    gone = sail_place.put("b.jpg", b"two")

    def hashing(data: bytes) -> Any:
        gone.unlink(missing_ok=True)
        return sha256(data)

    monkeypatch.setattr(ingestion, "sha256", hashing)
    done = sail_place.ingest()
    assert (done.new, done.refused) == (1, {"No such file or directory": 1})
    assert set(sail_place.rows()) == {"a.jpg"}
