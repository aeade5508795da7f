"""Which files are ingested, and how the others are counted."""

import os
from functools import partial
from pathlib import Path

import pytest

from faceattr_udf.config import IngestConfig
from faceattr_udf.spark.file_choice import FileChoice, first_bytes, is_system_name

JPEG = b"\xff\xd8\xff\xe0" + bytes(60)
HEIC = b"\0\0\0\x1cftypheic" + bytes(60)


def choose(root: Path, files: dict[str, bytes], **options: object) -> tuple[list[str], FileChoice]:
    choice = FileChoice(IngestConfig.model_validate(options))
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return [name for name in files if choice.takes(name, partial(first_bytes, root, name))], choice


def test_images_are_known_by_suffix_or_first_bytes_and_others_are_counted(tmp_path: Path) -> None:
    files = {"a.JPG": b"", "b": JPEG, "c.jpg_large": JPEG, "d.upload": HEIC, "e.txt": b"text", "f.TXT": b"", "g": b"x"}
    taken, choice = choose(tmp_path, files)
    assert taken == ["a.JPG", "b", "c.jpg_large", "d.upload"]
    assert choice.left_out == {".txt": 2, "": 1}
    assert (choice.system, choice.excluded) == (0, 0)


def test_patterns_choose_paths(tmp_path: Path) -> None:
    files = dict.fromkeys(["2026/a.jpg", "2026/b.png", "2026/thumbs/a.jpg", "2025/a.jpg", "notes.txt"], b"")
    taken, choice = choose(tmp_path, files, include=["2026/*"], exclude=["*/thumbs/*", "*.png"])
    assert taken == ["2026/a.jpg"]
    assert choice.excluded == 4
    assert choice.left_out == {}


def test_odd_files_are_left_out_and_not_opened_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "broken").symlink_to(tmp_path / "none")
    choice = FileChoice(IngestConfig())
    assert not any(
        choice.takes(name, partial(first_bytes, tmp_path, name)) for name in ("pipe", "link", "broken", "gone")
    )
    assert choice.left_out == {"": 4}


@pytest.mark.parametrize(
    ("name", "is_folder", "system"),
    [
        ("._a.jpg", False, True),
        (".hidden.jpg", False, True),
        (".DS_Store", False, True),
        ("Thumbs.db", False, True),
        ("__MACOSX", True, True),
        ("@eaDir", True, True),
        (".thumbnails", True, True),
        ("__MACOSX", False, False),
        ("a.jpg", False, False),
        ("2026", True, False),
    ],
)
def test_system_files_are_skipped_on_request(name: str, is_folder: bool, system: bool) -> None:
    assert is_system_name(name, is_folder=is_folder) is system
    skipping = FileChoice(IngestConfig(skip_system_files=True))
    assert skipping.skips(name, is_folder=is_folder) is system
    assert skipping.system == int(system)
    assert not FileChoice(IngestConfig()).skips(name, is_folder=is_folder)
