"""Ingestion of a folder into an images table, in both formats."""

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

from faceattr_udf.cli.ingest import summarize
from faceattr_udf.config import IngestConfig
from faceattr_udf.errors import BusyError, SchemaError, TableNotFoundError
from faceattr_udf.spark import ingestion
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.file_choice import FileChoice
from faceattr_udf.spark.images_writer import Change
from faceattr_udf.spark.ingestion import IngestReport, ingest
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.source_folders import LocalSource
from jobs import ingest as job

TableFormat = Literal["delta", "parquet"]


class IngestionWorkspace:
    """A folder of photos and the images table that they are ingested into."""

    def __init__(self, engine: Engine, folder: Path, table_format: TableFormat) -> None:
        self.engine, self.table_format = engine, table_format
        self.photos, self.images = folder / "my photos", folder / "images"
        self.photos.mkdir()

    def put(self, name: str, content: bytes) -> Path:
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def ingest(self, *overrides: str) -> IngestReport:
        config = self.engine.config(*overrides)
        return ingest(self.engine.session, config, str(self.photos), str(self.images), self.table_format)

    def rows(self) -> dict[str, dict[str, Any]]:
        frame = self.engine.session.read.format(self.table_format).load(str(self.images))
        rows = [row.asDict() for row in frame.collect()]
        assert len({row["image_id"] for row in rows}) == len(rows)
        return {row["image_id"]: row | {"content": row["content"] and bytes(row["content"])} for row in rows}


@pytest.fixture(params=["delta", "parquet"])
def workspace(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> IngestionWorkspace:
    """On each engine that the test is marked for, in both formats."""
    return IngestionWorkspace(engine, tmp_path, request.param)


@pytest.fixture
def sail_workspace(sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestionWorkspace:
    """For code that runs before a file reaches an engine."""
    sail_engine.select(monkeypatch)
    return IngestionWorkspace(sail_engine, tmp_path, "delta")


@pytest.mark.on_spark
def test_empty_folder_gives_empty_table(workspace: IngestionWorkspace) -> None:
    report = workspace.ingest()
    assert (report.new, report.changed, report.unchanged, report.refused) == (0, 0, 0, {})
    assert workspace.rows() == {}


def test_images_of_all_subfolders_become_rows(workspace: IngestionWorkspace) -> None:
    workspace.put("a.jpg", b"one")
    workspace.put("Ünï code/it's/b.PNG", b"two")
    workspace.put("empty.webp", b"")
    workspace.put("notes.txt", b"no picture")
    report = workspace.ingest()
    rows = workspace.rows()
    assert {name: row["content"] for name, row in rows.items()} == {
        "a.jpg": b"one",
        "Ünï code/it's/b.PNG": b"two",
        "empty.webp": b"",
    }
    assert all(row["content_sha256"] == sha256(row["content"]).hexdigest() for row in rows.values())
    assert all(row["size"] == len(row["content"]) for row in rows.values())
    assert rows["a.jpg"]["path"] == str(workspace.photos / "a.jpg")
    assert (report.new, report.bytes_written) == (3, 6)


@pytest.mark.on_spark
def test_second_run_adds_new_and_replaces_changed_files(workspace: IngestionWorkspace) -> None:
    workspace.put("same.jpg", b"same")
    workspace.put("other.jpg", b"before")
    workspace.ingest()
    workspace.put("other.jpg", b"after")
    workspace.put("sub/new.jpg", b"new")
    report = workspace.ingest()
    assert (report.new, report.changed, report.unchanged) == (1, 1, 1)
    assert {name: row["content"] for name, row in workspace.rows().items()} == {
        "same.jpg": b"same",
        "other.jpg": b"after",
        "sub/new.jpg": b"new",
    }
    report = workspace.ingest()
    assert (report.new, report.changed, report.unchanged, report.bytes_written) == (0, 0, 3, 0)
    assert not list(workspace.images.glob("**/_*.parquet"))
    assert not (workspace.images / "_ingest").exists()


@pytest.mark.on_spark
def test_report_is_the_same_for_any_lookup_size(workspace: IngestionWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are compared with the table in batches, so that its rows need not fit in memory."""
    monkeypatch.setattr(ingestion, "_LOOKUP_FILES", 2)
    for name in ("a.jpg", "b/1.jpg", "b/2.jpg", "b0.jpg", "c.jpg"):
        workspace.put(name, name.encode())
    assert workspace.ingest().new == 5
    workspace.put("b/2.jpg", b"changed")
    workspace.put("b-.jpg", b"new")
    (workspace.photos / "c.jpg").unlink()  # its row stays
    report = workspace.ingest()
    assert (report.new, report.changed, report.unchanged) == (1, 1, 3)
    assert {name for name, row in workspace.rows().items() if row["content"] != name.encode()} == {"b/2.jpg", "b-.jpg"}
    assert len(workspace.rows()) == 6


def test_driver_fetches_only_rows_of_the_files_at_hand(
    workspace: IngestionWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(12):
        workspace.put(f"{index:02}.jpg", b"image")
    workspace.ingest()
    for index in set(range(12)) - {0, 6, 11}:  # their rows stay, between those of the other files
        (workspace.photos / f"{index:02}.jpg").unlink()
    fetched: list[set[str]] = []
    find = ingestion._KnownRows.find

    def recording(rows: Any, image_ids: Any) -> Any:
        fetched.append(set(found := find(rows, image_ids)))
        return found

    monkeypatch.setattr(ingestion._KnownRows, "find", recording)
    assert workspace.ingest().unchanged == 3
    assert fetched == [{"00.jpg", "06.jpg", "11.jpg"}]


def test_files_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    names = ["a.jpg", "a/b.jpg", "a/b/c.jpg", "a-b.jpg", "a0.jpg", "a/é.jpg", "B.jpg", "z/a.jpg", "Ü/x.jpg"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    source = LocalSource(tmp_path)
    found = [name for name, _ in source.files(lambda *_: None, FileChoice(IngestConfig()))]
    assert found == sorted(names)


def test_unreadable_folder_is_refused(sail_workspace: IngestionWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    sail_workspace.put("a.jpg", b"one")
    sail_workspace.put("closed/b.jpg", b"two")
    scandir = os.scandir

    def refusing(folder: Any) -> Any:
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    report = sail_workspace.ingest()
    assert (report.new, report.refused) == (1, {"Permission denied": 1})


def test_batches_without_content_are_bounded_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "_FILE_ROWS", 3)
    changes = [Change({"image_id": str(index), "content": None}, is_new=True) for index in range(7)]
    assert [len(batch) for batch in ingestion._batches(changes)] == [3, 3, 1]


def test_links_out_of_the_folder_and_cycles_are_refused(sail_workspace: IngestionWorkspace, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    inside = sail_workspace.put("a.jpg", b"one")
    (sail_workspace.photos / "inside.jpg").symlink_to(inside)
    (sail_workspace.photos / "outside.jpg").symlink_to(secret)
    (sail_workspace.photos / "circle").symlink_to(sail_workspace.photos)
    report = sail_workspace.ingest()
    assert set(sail_workspace.rows()) == {"a.jpg", "inside.jpg"}
    assert sum(report.refused.values()) == 2


def test_missing_folder_is_named(sail_workspace: IngestionWorkspace) -> None:
    with pytest.raises(TableNotFoundError, match="nowhere does not exist"):
        ingest(
            sail_workspace.engine.session,
            sail_workspace.engine.config(),
            str(sail_workspace.photos / "nowhere"),
            str(sail_workspace.images),
        )
    assert not sail_workspace.images.exists()


@pytest.mark.on_spark
def test_table_with_other_columns_is_not_changed(workspace: IngestionWorkspace) -> None:
    workspace.engine.frame([("a", 1)], "image_id string, price int").write.format(workspace.table_format).save(
        str(workspace.images)
    )
    workspace.put("a.jpg", b"one")
    with pytest.raises(SchemaError, match="price is not expected"):
        workspace.ingest()
    assert [
        tuple(row)
        for row in workspace.engine.session.read.format(workspace.table_format).load(str(workspace.images)).collect()
    ] == [("a", 1)]


def test_existing_table_keeps_its_format(engine: Engine, tmp_path: Path) -> None:
    workspace = IngestionWorkspace(engine, tmp_path, "parquet")
    workspace.put("a.jpg", b"one")
    workspace.ingest()
    workspace.put("b.jpg", b"two")
    asked_for_delta = ingest(engine.session, engine.config(), str(workspace.photos), str(workspace.images), "delta")
    assert asked_for_delta.table.format == "parquet"
    assert set(workspace.rows()) == {"a.jpg", "b.jpg"}


def test_leftovers_of_killed_ingestion_are_removed(workspace: IngestionWorkspace) -> None:
    workspace.put("a.jpg", b"one")
    workspace.ingest()
    left = workspace.images / ("_ingest" if workspace.table_format == "delta" else "") / "_part-1.parquet"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half a file")
    assert workspace.ingest().unchanged == 1
    assert not left.exists()
    assert set(workspace.rows()) == {"a.jpg"}


def test_ingestion_killed_before_it_made_the_table(workspace: IngestionWorkspace) -> None:
    workspace.put("a.jpg", b"one")
    (workspace.images / "_lease").mkdir(parents=True)
    (workspace.images / "_part-1.parquet").write_bytes(b"half a file")
    if workspace.table_format == "delta":
        (workspace.images / "_delta_log").mkdir()
    workspace.ingest()
    assert set(workspace.rows()) == {"a.jpg"}


def test_second_ingestion_is_refused_while_first_writes(sail_workspace: IngestionWorkspace) -> None:
    sail_workspace.put("a.jpg", b"one")
    with (
        Lease(str(sail_workspace.images), "jobs.ingest", 60),
        pytest.raises(BusyError, match=r"is being written by jobs\.ingest"),
    ):
        sail_workspace.ingest()
    assert sail_workspace.ingest().new == 1


HUGE = 2**36
"""64 GiB of a sparse file: reading it would fail."""


def test_too_large_file_gets_row_without_content(workspace: IngestionWorkspace) -> None:
    os.truncate(workspace.put("huge.tif", b""), HUGE)
    workspace.put("small.jpg", b"one")
    report = workspace.ingest()
    assert (report.new, report.too_large, report.refused, report.bytes_written) == (2, 1, {}, 3)
    huge = workspace.rows()["huge.tif"]
    assert (huge["content"], huge["content_sha256"], huge["size"]) == (None, None, HUGE)
    report = workspace.ingest()
    assert (report.new, report.changed, report.unchanged, report.too_large) == (0, 0, 2, 0)


def test_size_limit_is_inclusive_in_both_directions(sail_workspace: IngestionWorkspace) -> None:
    sail_workspace.put("a.jpg", b"12345")
    assert sail_workspace.ingest("images.max_bytes=5").too_large == 0
    sail_workspace.put("a.jpg", b"123456")
    report = sail_workspace.ingest("images.max_bytes=5")
    assert (report.changed, report.too_large) == (1, 1)
    assert sail_workspace.rows()["a.jpg"]["content"] is None
    sail_workspace.put("a.jpg", b"1234567")
    assert sail_workspace.ingest("images.max_bytes=5").changed == 1
    assert sail_workspace.rows()["a.jpg"]["size"] == 7
    report = sail_workspace.ingest("images.max_bytes=7")
    assert (report.changed, report.too_large) == (1, 0)
    assert sail_workspace.rows()["a.jpg"]["content"] == b"1234567"


def test_too_large_file_is_too_large_in_the_results(workspace: IngestionWorkspace, tmp_path: Path) -> None:
    os.truncate(workspace.put("huge.tif", b""), HUGE)
    workspace.put("a.jpg", content(1))
    workspace.ingest()
    config = workspace.engine.config()
    for changed in (2, 0):
        run = enrich(
            workspace.engine.session,
            config,
            str(workspace.images),
            str(tmp_path / "out"),
            provider=provider(tmp_path / "seen"),
        )
        assert run.n_images == changed
    results = {row["image_id"]: row for row in workspace.engine.read(tmp_path / "out" / "image_results").collect()}
    assert (results["a.jpg"]["status"], results["a.jpg"]["error"]) == ("ok", None)
    assert results["huge.tif"]["status"] == "too_large"
    assert results["huge.tif"]["error"] == f"{HUGE} bytes are more than images.max_bytes = {config.images.max_bytes}"


def test_job_prints_too_large_and_refused_files(
    sail_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = IngestionWorkspace(sail_engine, tmp_path, "delta")
    os.truncate(workspace.put("huge.tif", b""), HUGE)
    os.mkfifo(workspace.photos / "pipe.jpg")
    assert job.main(["--input", str(workspace.photos), "--images", str(workspace.images)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("1 new, 0 changed, 0 unchanged images; 0.0 MiB")
    bound = sail_engine.config().images.max_bytes
    assert printed[1] == f"1 images without content, because they exceed images.max_bytes = {bound}"
    assert printed[2] == "1 files refused: not a regular file"


def test_pipes_sockets_and_devices_are_refused(sail_workspace: IngestionWorkspace) -> None:
    sail_workspace.put("a.jpg", b"one")
    os.mkfifo(sail_workspace.photos / "pipe.jpg")
    expected = 2
    listening = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(sail_workspace.photos)  # a socket's address has at most 108 bytes
    try:
        listening.bind("socket.jpg")
    finally:
        os.chdir(here)
        listening.close()
    with suppress(PermissionError):  # only root may
        os.mknod(sail_workspace.photos / "zero.jpg", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        expected += 1
    (sail_workspace.photos / "folder.jpg").mkdir()
    report = sail_workspace.ingest()
    assert set(sail_workspace.rows()) == {"a.jpg"}
    assert report.refused == {"not a regular file": expected}


def test_file_replaced_by_a_pipe_is_refused(
    sail_workspace: IngestionWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sail_workspace.put("a.jpg", b"one")
    opened = os.open

    def swapped(name: Any, *arguments: Any, **options: Any) -> int:
        if name == path.name:
            path.unlink()
            os.mkfifo(path)
        return opened(name, *arguments, **options)

    monkeypatch.setattr(os, "open", swapped)
    assert sail_workspace.ingest().refused == {"not a regular file": 1}


@pytest.mark.parametrize("becomes", [b"one and more", b"on", b"two"])
def test_file_that_changes_while_read_is_taken_next_time(
    sail_workspace: IngestionWorkspace, monkeypatch: pytest.MonkeyPatch, becomes: bytes
) -> None:
    path = sail_workspace.put("a.jpg", b"one")
    os.utime(path, (1, 1))
    measured, looks = os.fstat, []

    def changing(descriptor: int) -> os.stat_result:
        found = measured(descriptor)
        if os.path.samestat(found, path.stat()):
            looks.append(found)
            if len(looks) == 2:  # the first call checks the file's type, the second its size
                path.write_bytes(becomes)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", changing)
        report = sail_workspace.ingest()
    assert (report.new, report.refused) == (0, {"changed while it was read": 1})
    assert sail_workspace.ingest().new == 1
    assert sail_workspace.rows()["a.jpg"]["content"] == becomes


def test_file_deleted_before_it_is_read_is_refused(
    sail_workspace: IngestionWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sail_workspace.put("a.jpg", b"one")
    gone = sail_workspace.put("b.jpg", b"two")

    def hashing(data: bytes) -> Any:
        gone.unlink(missing_ok=True)
        return sha256(data)

    monkeypatch.setattr(ingestion, "sha256", hashing)
    report = sail_workspace.ingest()
    assert (report.new, report.refused) == (1, {"No such file or directory": 1})
    assert set(sail_workspace.rows()) == {"a.jpg"}


def test_files_that_are_left_out_are_counted_and_printed(
    sail_workspace: IngestionWorkspace, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a.jpg", "notes.txt", "b.txt", "README", "._a.jpg", "__MACOSX/x.jpg", "private/c.jpg"]
    for name in names:
        sail_workspace.put(name, b"x")
    sail_workspace.put("unnamed", b"\xff\xd8\xff\xe0")
    report = sail_workspace.ingest("ingest.skip_system_files=true", 'ingest.exclude=["private/*"]')
    assert set(sail_workspace.rows()) == {"a.jpg", "unnamed"}
    assert (report.left_out, report.system, report.excluded) == ({".txt": 2, "": 1}, 2, 1)
    summarize(report, sail_workspace.engine.config())
    assert capsys.readouterr().out.splitlines()[1:] == [
        "3 files left out, which are no images: 2 .txt, 1 without a suffix",
        "2 system files and folders skipped (ingest.skip_system_files)",
        "1 files excluded by ingest.include and ingest.exclude",
    ]
