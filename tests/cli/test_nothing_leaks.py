"""Tests that output, logs and tables contain no image bytes or secrets, and that output and logs contain no names."""

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Engine
from odd_images import encode, png, quadrants
from PIL import ExifTags, Image, PngImagePlugin

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError
from faceattr_udf.isolation import IsolatedAnalyzer
from faceattr_udf.results import ImageResult
from faceattr_udf.spark import session
from faceattr_udf.spark.locations import output_ref
from faceattr_udf.spark.runs import Run, RunsTable
from faceattr_udf.spark.schemas import RUNS
from faceattr_udf.spark.tables import Tables
from jobs import enrich, ingest

ROOT = Path(__file__).parents[2]
PRIVATE = "Zq7x"
"""Four letters, like the name of a PNG chunk; the content repeats them, so that any four bytes of it are recognized."""
TEXT = (PRIVATE * 12).encode()
FRAGMENTS = [(PRIVATE * 2)[start : start + 4] for start in range(4)]


def leaks(text: str) -> list[str]:
    """Returns the fragments of the private text that occur in another text."""
    return [fragment for fragment in FRAGMENTS if fragment.lower() in text.lower()]


def _images_with_text() -> Iterator[bytes]:
    """Yields images with the private text in every place where their format allows text."""
    exif = Image.Exif()
    for tag in (ExifTags.Base.ImageDescription, ExifTags.Base.Artist, ExifTags.Base.XPAuthor, 0xABCD):
        exif[tag] = TEXT.decode()
    xmp = b"<x:xmpmeta>" + TEXT + b"</x:xmpmeta>"
    image = quadrants(64, 48)
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", TEXT.decode())
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    yield encode(image, "JPEG", exif=exif, comment=TEXT, xmp=xmp, icc_profile=TEXT)
    yield encode(image, "PNG", exif=exif, pnginfo=info, icc_profile=TEXT)
    yield encode(image, "WEBP", exif=exif, xmp=xmp, icc_profile=TEXT)
    yield encode(image.quantize(4), "GIF", comment=TEXT)
    yield encode(image, "TIFF", exif=exif, compression="tiff_deflate", icc_profile=TEXT)
    yield encode(image, "TIFF", exif=exif, compression="jpeg")
    yield encode(image, "JPEG2000", comment=TEXT)
    yield encode(image, "BMP") + TEXT
    yield b"P6 " + TEXT + b" 3 255 " + TEXT
    yield b"P6 64 " + TEXT
    # Pillow quotes these in its messages.
    yield b"P3 8 8 255\n1 2 3 " + TEXT
    yield b"P2 8 8 255\n1 2 3 " + b" ".join([PRIVATE[:3].encode()] * 64)
    yield b"/* XPM */\n" + TEXT
    yield b"#define " + TEXT + b"_width 8\n"
    for name in (PRIVATE, PRIVATE.upper(), PRIVATE[::-1]):
        yield png(8, 8, 8, 2, b"\0" * 200, (name.encode(), TEXT))
        yield png(8, 8, 8, 2, b"\0" * 200)[:33] + struct.pack(">I", 2**31 - 1) + name.encode() + TEXT
    yield b"\x89PNG\r\n\x1a\n" + TEXT
    yield b"\xff\xd8\xff\xe1" + struct.pack(">H", len(TEXT) + 8) + b"Exif\0\0" + TEXT
    yield b"II*\0\x08\0\0\0" + TEXT
    yield b"MM\0*\0\0\0\x08\0\x02" + struct.pack(">HHII", 270, 2, 48, 8) + struct.pack(">HHII", 256, 2, 48, 8) + TEXT
    yield b"RIFF" + struct.pack("<I", 60) + b"WEBP" + TEXT
    yield b"GIF89a" + TEXT
    yield TEXT


def broken_images() -> list[bytes]:
    """Returns these images, truncated copies, and copies with parts overwritten; always the same."""
    rng = np.random.default_rng(7)
    images = []
    for content in _images_with_text():
        images.append(content)
        images += [content[: int(len(content) * share)] for share in (0.3, 0.8)]
        for _ in range(12):
            damaged = bytearray(content)
            for _ in range(int(rng.integers(1, 6))):
                at = int(rng.integers(0, min(len(damaged), 400)))
                damaged[at : at + 4] = PRIVATE.encode() if rng.random() < 0.6 else rng.bytes(4)
            images.append(bytes(damaged))
    return images


def _with_right_checksums(content: bytes) -> bytes:
    """Corrects the checksums of a PNG, so that decoders read its damaged chunks."""
    if not content.startswith(b"\x89PNG"):
        return content
    out, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + length]
        out += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out)


NAMES = [
    "Erika Mustermann.jpg",
    "erika@example.org",
    "a\n2026-11-25 [info] all is well",
    "\x1b[2J\x1b[31mRED",
    "x\u202egpj.exe",
]
SETTINGS = [
    "engine.remote=sc://host:443/;token=t0psecret;use_ssl=true",
    "engine.settings.spark.hadoop.fs.s3a.secret.key=t0psecret",
    "engine.settings.spark.hadoop.fs.s3a.access.key=t0psecret",
    "engine.settings.fs.azure.account.key.me.dfs.core.windows.net=t0psecret",
    "engine.settings.spark.driver.extraJavaOptions=-Djavax.net.ssl.trustStorePassword=t0psecret",
    "engine.settings.spark.hadoop.javax.jdo.option.ConnectionURL=jdbc:mysql://me:t0psecret@db/metastore",
]


def test_run_over_broken_images_leaks_no_content(sail_engine: Engine, tmp_path: Path) -> None:
    contents = [_with_right_checksums(content) for content in broken_images()] + broken_images()
    ids = [f"{NAMES[i % len(NAMES)]} {i}" for i in range(len(contents))]
    (tmp_path / "images").mkdir()
    pq.write_table(pa.table({"image_id": ids, "content": contents}), tmp_path / "images" / "part.parquet")
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "jobs.enrich", "--images", "images", "--output", "out", *options],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "always"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    printed = finished.stdout + finished.stderr
    assert f"{len(contents)} images in" in printed
    assert leaks(printed) == []
    assert not [
        word for word in ("t0psecret", "Erika", "erika@", "\x1b[", "RED", "[info] all is well") if word in printed
    ]
    results = [row.asDict() for row in sail_engine.read(tmp_path / "out" / "image_results").collect()]
    assert sorted(row["image_id"] for row in results) == sorted(ids)
    errors = {row["error"] for row in results if row["error"]}
    assert len(errors) > 3
    for error in errors:
        assert leaks(error) == []
        assert error.isprintable()
        assert error.isascii()
    (run,) = (row.asDict() for row in sail_engine.read(tmp_path / "out" / "runs").collect())
    assert "t0psecret" not in repr(run)
    settings = json.loads(run["config"])["engine"]["settings"]
    assert set(settings.values()) == {"(hidden)"}
    assert len(settings) == len(SETTINGS) - 1


class QuotingAnalyzer:
    """Fails with the content in its message."""

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        raise KeyError(contents[0])


def test_failing_child_process_leaks_no_content(capfd: pytest.CaptureFixture[str]) -> None:
    analyzer = IsolatedAnalyzer(QuotingAnalyzer, 60)
    with pytest.raises(RuntimeError, match=r"KeyError") as caught:
        analyzer.analyze([TEXT])
    analyzer.close()
    captured = capfd.readouterr()
    assert "KeyError" in captured.err
    assert leaks(captured.err + captured.out + str(caught.value)) == []


def test_passwords_in_addresses_are_not_recorded(sail_engine: Engine, tmp_path: Path) -> None:
    ref = output_ref("runs", str(tmp_path))
    tables = Tables(sail_engine.session, "sail")
    tables.ensure(ref, RUNS)
    RunsTable(tables, ref).begin(Run("s3://me:t0psecret@bucket/images", Config(), "v"))
    (row,) = sail_engine.read(tmp_path / "runs").collect()
    assert row["images"] == "s3://(hidden)@bucket/images"


def test_ingest_escapes_unprintable_file_names(
    sail_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sail_engine.session
    photos = tmp_path / "photos"
    photos.mkdir()
    names = ["a\n2026-11-25 [info] all is well.jpg", "\x1b[2J.jpg", os.fsdecode(b"\xff\xfe.jpg"), "plain.jpg"]
    for name in names:
        (photos / name).symlink_to("/etc/hostname")
    assert ingest.main(["--input", str(photos), "--images", str(tmp_path / "images")]) == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert len(lines) == len(names)
    assert {line["event"] for line in lines} == {"file_refused"}
    assert (captured.err + captured.out).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "remote",
    [
        "sc://127.0.0.1:9/;token=t0psecret",
        "sc://127.0.0.1:9;token=t0psecret",
        "sc://me:t0psecret@127.0.0.1:9",
        "sc://127.0.0.1:port/;token=t0psecret",
        "http://127.0.0.1:9/;token=t0psecret",
        "sc://127.0.0.1:9/;token",
        "sc://127.0.0.1:9/path;token=t0psecret",
    ],
)
def test_error_about_an_unusable_server_hides_secrets(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "_CONNECT_SECONDS", 0.2)
    options = ["--set", "engine.name=connect", "--set", f"engine.remote={remote}"]
    assert enrich.main(["--images", "images", "--output", str(tmp_path), *options]) == 2
    captured = capfd.readouterr()
    assert "Spark Connect server" in captured.err
    assert "t0psecret" not in captured.err + captured.out


@pytest.mark.parametrize(
    "overrides",
    [
        ["engine.remote=['sc://host/;token=t0psecret']"],
        ["engine.remot=sc://host/;token=t0psecret"],
        ["engine.master={password='t0psecret'}"],
        ["engine='token=t0psecret'"],
        ["engine.settings=['secret.key=t0psecret']"],
        ["engine.settings.fs.azure.account.key.me=t0psecret", "engine.settings=8"],
        ["engine.settings.fs.s3a.secret.key t0psecret"],
        ["engine.remote=x", "engine.remote.token=t0psecret"],
        ["output.faces=['s3://me:t0psecret@bucket/faces']"],
    ],
)
def test_error_about_an_invalid_configuration_hides_secrets(overrides: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(None, overrides)
    assert "t0psecret" not in str(caught.value)
    assert re.search(r"engine|output", str(caught.value))
