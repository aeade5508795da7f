"""Hadoop's file systems as Arrow's: the lease and the staging area where Arrow reaches no store."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Engine
from fakes import content, provider
from pyarrow import fs

from faceattr_udf.errors import BusyError, EngineError
from faceattr_udf.spark import enrich, ingest, ingestion, maintain, store_files, worker_reads
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import file_system

pytestmark = pytest.mark.spark

SCHEME = "viewfs://cluster"
"""A scheme that Arrow does not know; a mount table leads to a local folder."""


@pytest.fixture
def place(spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    spark_engine.select(monkeypatch)
    session: Any = spark_engine.session
    hadoop = session.sparkContext._jsc.hadoopConfiguration()
    mount = f"/{tmp_path.name}"
    hadoop.set(f"fs.viewfs.mounttable.cluster.link.{mount}", tmp_path.as_uri())
    hadoop.set("fs.viewfs.impl.disable.cache", "true")  # each test adds a mount
    return f"{SCHEME}{mount}"


def test_files_are_written_listed_read_and_removed(place: str, tmp_path: Path) -> None:
    system, root = file_system(place)
    assert system.type_name == "py::hadoop"
    folder = f"{root}/a b%20ü"
    system.create_dir(folder, recursive=True)
    with system.open_output_stream(f"{folder}/x.json") as stream:
        stream.write(b"one")
        stream.write(bytes(range(256)))
    assert (tmp_path / "a b%20ü" / "x.json").read_bytes() == b"one" + bytes(range(256))
    with system.open_input_stream(f"{folder}/x.json") as stream:
        assert stream.read() == b"one" + bytes(range(256))
    (info,) = system.get_file_info(fs.FileSelector(folder))
    assert (info.base_name, info.extension, info.size, info.path) == ("x.json", "json", 259, f"{folder}/x.json")
    assert info.mtime is not None
    system.move(f"{folder}/x.json", f"{folder}/y")
    with system.open_output_stream(f"{folder}/x.json") as stream:
        stream.write(b"two")
    system.move(f"{folder}/x.json", f"{folder}/y")  # replaces it, as on other file systems
    assert (tmp_path / "a b%20ü" / "y").read_bytes() == b"two"
    found = system.get_file_info(fs.FileSelector(root, recursive=True))
    assert {(info.path, info.type) for info in found} == {
        (folder, fs.FileType.Directory),
        (f"{folder}/y", fs.FileType.File),
    }
    system.delete_dir(folder)
    assert system.get_file_info(folder).type == fs.FileType.NotFound
    assert system.get_file_info(fs.FileSelector(folder, allow_not_found=True)) == []
    for act in (
        lambda: system.get_file_info(fs.FileSelector(folder)),
        lambda: system.open_input_stream(folder),
        lambda: system.move(f"{folder}/x", f"{folder}/y"),
    ):
        with pytest.raises(FileNotFoundError):
            act()


def test_missing_connector_is_one_sentence(spark_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spark_engine.select(monkeypatch)
    with pytest.raises(EngineError, match=r"nostore://x/y cannot be opened .*nostore.*connector"):
        file_system("nostore://x/y")


def test_one_writer_and_no_staging_where_arrow_reaches_nothing(
    spark_engine: Engine, place: str, tmp_path: Path
) -> None:
    spark, config = spark_engine.session, spark_engine.config("enrich.wave_images=1")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(content(1, str(number)))
    ingest(spark, config, str(tmp_path / "photos"), f"{place}/images")
    output = f"{place}/out"
    with Lease(output, "another job", 60) as held:
        assert held.held
        with pytest.raises(BusyError, match="another job"):
            enrich(spark, config, f"{place}/images", output, provider=provider(tmp_path / "seen"))
    run = enrich(spark, config, f"{place}/images", output, provider=provider(tmp_path / "seen"))
    assert run.counts == {"ok": 2}
    assert not (tmp_path / "out" / "_staging").exists()
    assert not (tmp_path / "images" / "_ingest").exists()
    assert not list((tmp_path / "out" / "_lease").glob("*"))
    report = maintain(spark, config, output, ["vacuum"])
    assert all(table.after.disk is not None for table in report.tables)


def test_parquet_images_table_is_written_through_hadoop(spark_engine: Engine, place: str, tmp_path: Path) -> None:
    spark, config = spark_engine.session, spark_engine.config()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"one")
    ingest(spark, config, str(tmp_path / "photos"), f"{place}/images", "parquet")
    (file,) = (tmp_path / "images").glob("*.parquet")
    assert pq.read_table(file).column("content").to_pylist() == [b"one"]


def _rows(engine: Engine, place: str) -> dict[str, Any]:
    rows = engine.session.read.format("delta").load(f"{place}/images").collect()
    assert len({row["image_id"] for row in rows}) == len(rows)
    return {row["image_id"]: row for row in rows}


def test_workers_read_a_store_as_the_driver_reads_a_folder(
    spark_engine: Engine, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "_LOOKUP_FILES", 4)
    monkeypatch.setattr(store_files, "_SORTED", 3)
    names = ["a b%20c.jpg", "country=NL/ü[1].jpg", "country=DE/{x}*.jpg", "_hidden.jpg", "plain.jpg", "z/_d/e.jpg"]
    photos = {name: content(1, name) for name in names}
    photos["empty.jpg"] = b""
    for name, data in photos.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "photos" / "big.jpg").write_bytes(b"x" * 2000)
    (tmp_path / "photos" / "notes.txt").write_bytes(b"text")
    spark, config = spark_engine.session, spark_engine.config("images.max_bytes=1000")
    read_by_driver: list[str] = []
    changes = ingestion._changes

    def recording(source: Any, files: Any, *rest: Any) -> Any:
        read_by_driver.extend(name for name, _ in files)
        return changes(source, files, *rest)

    monkeypatch.setattr(ingestion, "_changes", recording)
    done = ingest(spark, config, f"{place}/photos", f"{place}/images")
    assert (done.new, done.too_large, done.left_out) == (8, 1, {".txt": 1})
    assert read_by_driver == ["_hidden.jpg"]  # Spark passes over such names
    rows = _rows(spark_engine, place)
    assert {
        name: row["content"] if row["content"] is None else bytes(row["content"]) for name, row in rows.items()
    } == {
        **photos,
        "big.jpg": None,
    }
    for name, data in photos.items():
        assert rows[name]["path"] == f"{place}/photos/{name}"
        assert (rows[name]["size"], rows[name]["content_sha256"]) == (len(data), sha256(data).hexdigest())
    assert (rows["big.jpg"]["size"], rows["big.jpg"]["content_sha256"]) == (2000, None)
    assert done.bytes_written == sum(map(len, photos.values()))
    # A second night reads all and writes what differs.
    (tmp_path / "photos" / "plain.jpg").write_bytes(b"other")
    (tmp_path / "photos" / "new.jpg").write_bytes(b"new")
    done = ingest(spark, config, f"{place}/photos", f"{place}/images")
    assert (done.new, done.changed, done.unchanged, done.too_large) == (1, 1, 7, 0)
    assert bytes(_rows(spark_engine, place)["plain.jpg"]["content"]) == b"other"
    assert not (tmp_path / "images" / "_ingest").exists()


@pytest.mark.parametrize("gone", [False, True])
def test_file_that_changes_or_goes_before_a_worker_reads_it_is_refused(
    spark_engine: Engine, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "grown.jpg", "gone.jpg"):
        (tmp_path / "photos" / name).write_bytes(b"first")
    write = worker_reads.WorkerReads.write

    def late(self: Any, files: Any, known: Any) -> Any:
        (tmp_path / "photos" / "grown.jpg").write_bytes(b"first and more")
        if gone:  # then the driver reads the others
            (tmp_path / "photos" / "gone.jpg").unlink()
        return write(self, files, known)

    monkeypatch.setattr(worker_reads.WorkerReads, "write", late)
    done = ingest(spark_engine.session, spark_engine.config(), f"{place}/photos", f"{place}/images")
    refused = {"changed while it was read": 1}
    if gone:
        (reason,) = set(done.refused) - set(refused)
        refused[reason] = 1
    assert (done.new, done.refused) == (1 if gone else 2, refused)
    assert set(_rows(spark_engine, place)) == ({"a.jpg"} if gone else {"a.jpg", "gone.jpg"})
