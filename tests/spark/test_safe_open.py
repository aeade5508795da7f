"""No file outside of the input folder gets into an images table, also when links change during the ingestion."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from pyspark.sql import SparkSession

from faceattr_udf.spark import source_folders
from faceattr_udf.spark.file_choice import FileChoice
from faceattr_udf.spark.ingestion import IngestReport, ingest
from faceattr_udf.spark.safe_open import OutsideFolderError, open_inside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.jpg").write_bytes(b"inside")
    outside = tmp_path / "photos of others"  # its path has the folder's path as a prefix
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"secret")
    return folder


@pytest.fixture
def outside(folder: Path) -> Path:
    return folder.parent / "photos of others"


def read(folder: Path, name: str) -> bytes:
    with open_inside(folder, folder / name) as file:
        return file.read()


def test_file_is_read(folder: Path) -> None:
    assert read(folder, "sub/a.jpg") == b"inside"


def test_folder_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert read(tmp_path / "link", "sub/a.jpg") == b"inside"


@pytest.mark.parametrize("target", ["sub/a.jpg", "{folder}/sub/a.jpg", "sub/../sub/a.jpg", "../photos/sub/a.jpg"])
def test_link_to_a_file_inside_is_followed(folder: Path, target: str) -> None:
    (folder / "link.jpg").symlink_to(target.format(folder=folder))
    assert read(folder, "link.jpg") == b"inside"


def test_chain_of_links_is_judged_by_its_end(folder: Path, outside: Path) -> None:
    (folder / "1.jpg").symlink_to("2.jpg")
    (folder / "2.jpg").symlink_to("sub/a.jpg")
    (outside / "back.jpg").symlink_to(folder / "sub" / "a.jpg")
    (folder / "round trip.jpg").symlink_to(outside / "back.jpg")
    (folder / "3.jpg").symlink_to("4.jpg")
    (folder / "4.jpg").symlink_to(outside / "a.jpg")
    assert read(folder, "1.jpg") == read(folder, "round trip.jpg") == b"inside"
    with pytest.raises(OutsideFolderError):
        read(folder, "3.jpg")


@pytest.mark.parametrize("target", ["../photos of others/a.jpg", "{outside}/a.jpg", "/etc/hostname", "/dev/zero"])
def test_link_to_the_outside_is_refused(folder: Path, outside: Path, target: str) -> None:
    (folder / "link.jpg").symlink_to(target.format(outside=outside))
    with pytest.raises(OutsideFolderError):
        read(folder, "link.jpg")


def test_linked_folder_outside_is_refused(folder: Path, outside: Path) -> None:
    (folder / "linked").symlink_to(outside)
    (folder / "also").symlink_to("sub")
    with pytest.raises(OutsideFolderError):
        read(folder, "linked/a.jpg")
    assert read(folder, "also/a.jpg") == b"inside"


@pytest.mark.parametrize(
    "name", ["../photos of others/a.jpg", "sub/../../photos of others/a.jpg", "/etc/hostname", ".."]
)
def test_path_that_leads_out_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(OutsideFolderError):
        read(folder, name)


def test_broken_links_and_cycles_are_refused(folder: Path) -> None:
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "b.jpg").symlink_to("c.jpg")
    (folder / "c.jpg").symlink_to("b.jpg")
    (folder / "gone.jpg").symlink_to("no such file")
    for name in ("self.jpg", "b.jpg", "gone.jpg"):
        with pytest.raises(OSError, match=r"symbolic links|No such file"):
            read(folder, name)


@pytest.fixture
def special(folder: Path) -> Iterator[dict[str, Path]]:
    """A pipe without a writer, a socket and a folder, inside of the folder."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path has at most 108 bytes
        server.bind("socket")
        os.chdir(here)
        yield {"pipe": folder / "pipe", "socket": folder / "socket", "folder": folder / "sub", "itself": folder}


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("special_file", ["pipe", "socket", "folder", "itself"])
def test_link_to_a_special_file_is_refused(folder: Path, special: dict[str, Path], special_file: str) -> None:
    (folder / "link.jpg").symlink_to(special[special_file])
    before = _open_files()
    with pytest.raises(OSError, match="not a regular file"):
        read(folder, "link.jpg")
    assert _open_files() == before


@pytest.mark.timeout(20)
def test_file_swapped_for_a_pipe_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        found = look(path, **options)
        if str(path).endswith("a.jpg"):
            os.unlink(path)  # noqa: PTH108 - pathlib would call this function again
            os.mkfifo(path)
        return found

    monkeypatch.setattr(os, "stat", stat)
    before = _open_files()
    with pytest.raises(OSError, match="not a regular file"):
        read(folder, "sub/a.jpg")
    assert _open_files() == before


def _file_to_link(folder: Path, outside: Path) -> None:
    (folder / "sub" / "a.jpg").unlink()
    (folder / "sub" / "a.jpg").symlink_to(outside / "a.jpg")


def _folder_to_link(folder: Path, outside: Path) -> None:
    shutil.rmtree(folder / "sub")
    (folder / "sub").symlink_to(outside)


SWAPS = [_file_to_link, _folder_to_link]


@pytest.mark.parametrize("swap", SWAPS)
def test_path_swapped_for_a_link_is_refused(
    folder: Path, outside: Path, swap: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = os.path.realpath
    swapped = False

    def realpath(path: Any, *, strict: bool = False) -> Any:
        nonlocal swapped
        real = resolve(path, strict=strict)
        if str(real).endswith("a.jpg") and not swapped:
            swapped = True
            swap(folder, outside)  # after the check
        return real

    monkeypatch.setattr(os.path, "realpath", realpath)
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        read(folder, "sub/a.jpg")
    assert swapped


class Folder:
    """The folder and the images table that it is ingested into."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder, self.images = engine, folder, folder.parent / "images"

    def ingest(self) -> IngestReport:
        session: SparkSession = self.engine.session
        return ingest(session, self.engine.config(), str(self.folder), str(self.images), "parquet")

    def contents(self) -> dict[str, bytes]:
        rows = self.engine.session.read.parquet(str(self.images)).collect()
        return {row["image_id"]: bytes(row["content"]) for row in rows}


@pytest.fixture
def place(sail_engine: Engine, folder: Path) -> Folder:
    return Folder(sail_engine, folder)


@pytest.mark.timeout(60)
def test_ingest_takes_files_inside_and_counts_the_rest(place: Folder, outside: Path, special: dict[str, Path]) -> None:
    links: dict[str, str | Path] = {
        "inside.jpg": "sub/a.jpg",
        "chain.jpg": "inside.jpg",
        "out.jpg": outside / "a.jpg",
        "chain out.jpg": "out.jpg",
        "device.jpg": "/dev/zero",
        "pipe.jpg": special["pipe"],
        "socket.jpg": special["socket"],
        "self.jpg": "self.jpg",
        "gone.jpg": "no such file",
        "folder.jpg": "sub",
        "folder out": outside,
        "up": "..",
    }
    for name, target in links.items():
        (place.folder / name).symlink_to(target)
    report = place.ingest()
    assert place.contents() == dict.fromkeys(["sub/a.jpg", "inside.jpg", "chain.jpg"], b"inside")
    assert report.refused.pop("symbolic link out of the folder") == 3
    assert report.refused.pop("symbolic link to a folder") == 3
    assert sum(report.refused.values()) == 4


@pytest.mark.parametrize("swap", SWAPS)
def test_ingest_refuses_a_path_swapped_after_listing(
    place: Folder, outside: Path, swap: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = source_folders._files

    def files(root: Path, refuse: source_folders.Refuse, choice: FileChoice) -> Iterator[tuple[str, Path]]:
        found = list(listed(root, refuse, choice))
        swap(place.folder, outside)
        return iter(found)

    monkeypatch.setattr(source_folders, "_files", files)
    report = place.ingest()
    assert place.contents() == {}
    assert sum(report.refused.values()) == 1
