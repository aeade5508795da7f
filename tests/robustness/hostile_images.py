"""Generates damaged, malicious and mislabeled image files; seed and index determine the bytes of each."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from hostile_encodings import ENCODERS, SECRET, chunk, encode, exif, insert_chunks, insert_segments, png, segments
from PIL import Image

PHOTO_SIDE: Final = 240
"""Longer side of the photographs after resizing, in pixels: their faces are still large enough to be detected."""


@dataclass(frozen=True)
class HostileImage:
    """One file.

    Attributes:
        name: Kind of damage, then encoding, source image and details, separated by slashes.
        content: Its bytes; None as in a table row without content.
        good: Whether the file is undamaged, so that it must be read.
    """

    name: str
    content: bytes | None
    good: bool = False

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


def source_images(photographs: Iterable[Path]) -> dict[str, Image.Image]:
    """Returns the photographs at a small size, and synthetic images with unusual contents and sizes."""
    found = {}
    for path in photographs:
        with Image.open(path) as photograph:
            photograph.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
            found[path.stem] = photograph.convert("RGB")
    rng = np.random.default_rng(0)
    found["noise"] = Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    found["black"] = Image.new("RGB", (64, 64))
    found["gradient"] = Image.fromarray(np.mgrid[0:50, 0:70].sum(0).astype(np.uint8)).convert("RGB")
    for width, height in ((1, 1), (1, 2), (2, 1), (3, 11), (12, 12), (1, 3000), (5000, 1), (13, 2500), (4000, 21)):
        found[f"{width}x{height}"] = Image.new("RGB", (width, height), (200, 150, 120))
    return found


class HostileImages(Sequence[HostileImage]):
    """A sequence in which seed and index determine an item."""

    def __init__(self, sources: Mapping[str, Image.Image], count: int, seed: int, max_pixels: int) -> None:
        """Stores what items are generated from.

        Args:
            sources: Images to encode and damage, from `source_images`.
            count: Number of items.
            seed: Seed of the random generators.
            max_pixels: The decoder's limit; decompression bombs have about as many pixels.
        """
        self._sources = list(sources.items())
        self._count, self._seed, self._max_pixels = count, seed, max_pixels
        self._encoded: dict[tuple[str, str, int], bytes] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> HostileImage:  # type: ignore[override]
        if not 0 <= index < self._count:
            raise IndexError(index)
        rng = np.random.default_rng([self._seed, index])
        name = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))]
        if name == "good":
            origin, content = self._good(rng)
            return HostileImage(f"good/{origin}", content, good=True)
        if name in _DAMAGES:
            origin, content = self._good(rng)
            detail, damaged = _DAMAGES[name](content, rng, lambda: self._good(rng)[1])
            return HostileImage(f"{name}/{origin}/{detail}", damaged)
        variants = {"bomb": _bombs, "slow": _slow, "no-image": _no_images}[name](rng, self._max_pixels)
        detail, make = variants[int(rng.integers(len(variants)))]
        return HostileImage(f"{name}/{detail}", make())

    def _good(self, rng: np.random.Generator) -> tuple[str, bytes]:
        encoding = list(ENCODERS)[int(rng.integers(len(ENCODERS)))]
        source, image = self._sources[int(rng.integers(len(self._sources)))]
        variant = int(rng.integers(2))
        key = (encoding, source, variant)
        if key not in self._encoded:
            self._encoded[key] = ENCODERS[encoding](image, np.random.default_rng([self._seed, 10**9, variant]))
        return f"{encoding}/{source}/{variant}", self._encoded[key]


def _truncate(content: bytes, rng: np.random.Generator, _: Callable[[], bytes]) -> tuple[str, bytes]:
    kept = int(rng.integers(1, len(content)) if rng.random() < 0.6 else rng.integers(1, min(len(content), 64)))
    return f"{kept} bytes", content[:kept]


def _flip(content: bytes, rng: np.random.Generator, _: Callable[[], bytes]) -> tuple[str, bytes]:
    flipped = np.frombuffer(content, dtype=np.uint8).copy()
    count = int(2 ** rng.integers(0, 8))
    # Half of the files are damaged in the header, where a bit has the largest effect.
    end = len(flipped) if rng.random() < 0.5 else min(len(flipped), 256)
    positions = rng.integers(0, end, count)
    flipped[positions] ^= (1 << rng.integers(0, 8, count)).astype(np.uint8)
    return f"{count} bits", flipped.tobytes()


def _replace(content: bytes, rng: np.random.Generator, _: Callable[[], bytes]) -> tuple[str, bytes]:
    start = int(rng.integers(len(content)))
    length = int(rng.integers(1, 1 + min(4096, len(content))))
    filler = (bytes(length), b"\xff" * length, rng.bytes(length), b"", content[:length])[int(rng.integers(5))]
    return f"{length} bytes at {start} by {len(filler)}", content[:start] + filler + content[start + length :]


def _splice(content: bytes, rng: np.random.Generator, other: Callable[[], bytes]) -> tuple[str, bytes]:
    second = other()
    first = int(rng.integers(1, len(content) + 1))
    return f"{first} bytes and another file", content[:first] + second[int(rng.integers(len(second))) :]


_HEADER_FIELDS: Final = {
    # Signature -> fields with sizes, as offset from the signature and struct format.
    b"\x89PNG": [(16, ">I"), (20, ">I"), (24, "B"), (25, "B"), (28, "B"), (33, ">I")],
    b"GIF8": [(6, "<H"), (8, "<H"), (10, "B")],
    b"BM": [(2, "<I"), (10, "<I"), (14, "<I"), (18, "<i"), (22, "<i"), (28, "<H"), (30, "<I"), (34, "<I")],
    b"VP8 ": [(4, "<I"), (14, "<H"), (16, "<H")],
    b"VP8L": [(4, "<I"), (9, "<I")],
    b"VP8X": [(4, "<I"), (12, "<I"), (14, "<I")],
    b"ANMF": [(4, "<I"), (8, "<I"), (14, "<I"), (17, "<I")],
    b"RIFF": [(4, "<I")],
    b"ihdr": [(4, ">I"), (8, ">I"), (12, ">H"), (14, "B")],
    b"\xff\x51": [(2, ">H"), (6, ">I"), (10, ">I"), (22, ">I"), (26, ">I"), (38, ">H"), (40, "B")],
    b"ispe": [(8, ">I"), (12, ">I")],
    b"iloc": [(4, ">I"), (8, ">H"), (14, ">I"), (18, ">I")],
    b"qoif": [(4, ">I"), (8, ">I"), (12, "B")],
    b"DDS ": [(12, "<I"), (16, "<I"), (80, "<I")],
    b"icns": [(4, ">I"), (12, ">I")],
    b"\x01\xda": [(2, "B"), (3, "B"), (6, ">H"), (8, ">H"), (10, ">H")],
    b"\x0a\x05": [(3, "B"), (8, "<H"), (10, "<H"), (65, "B"), (66, "<H")],
    b"\xff\xc0": [(2, ">H"), (4, "B"), (5, ">H"), (7, ">H"), (9, "B"), (11, "B")],
    b"\xff\xc2": [(2, ">H"), (4, "B"), (5, ">H"), (7, ">H"), (9, "B"), (11, "B")],
    b"\xff\xda": [(2, ">H"), (4, "B"), (5, "B")],
    b"\xff\xe0": [(2, ">H")],
    b"\xff\xe1": [(2, ">H")],
    b"\xff\xe2": [(2, ">H")],
    b"\xff\xdb": [(2, ">H"), (4, "B")],
    b"\xff\xc4": [(2, ">H"), (4, "B"), (5, "B")],
    b"\xff\xdd": [(4, ">H")],
    b"\0\0\1\0": [(4, "<H"), (6, "B"), (12, "<H"), (14, "<I"), (18, "<I"), (22, "<I"), (26, "<I"), (30, "<I")],
}
_TIFF_BYTE_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">"}


def _falsify(content: bytes, rng: np.random.Generator, _: Callable[[], bytes]) -> tuple[str, bytes]:
    """Sets header fields to wrong values: off by one, too large, negative, or the extremes of the type."""
    fields = [
        (content.index(signature) + offset, type_)
        for signature, offsets in _HEADER_FIELDS.items()
        if content.find(signature, 0, 4096) >= 0
        for offset, type_ in offsets
    ]
    for signature, order in _TIFF_BYTE_ORDERS.items():
        start = content.find(signature)
        if 0 <= start <= len(content) - 8:
            directory = start + struct.unpack_from(f"{order}I", content, start + 4)[0]
            entries = directory + 2 + 12 * np.arange(20)
            fields += [(start + 4, f"{order}I"), (directory, f"{order}H")]
            fields += [(int(entry) + 2, f"{order}H") for entry in entries]
            fields += [(int(entry) + offset, f"{order}I") for entry in entries for offset in (4, 8)]
    fields = [(at, type_) for at, type_ in fields if at + struct.calcsize(type_) <= len(content)]
    if not fields:
        return _flip(content, rng, lambda: b"")
    falsified = bytearray(content)
    changes = []
    for index in rng.choice(len(fields), size=int(rng.integers(1, 4))):
        at, type_ = fields[int(index)]
        bits = 8 * struct.calcsize(type_)
        (true,) = struct.unpack_from(type_.upper(), falsified, at)
        wrong = (0, 1, true + 1, true - 1, true * 1000, 2 ** (bits - 1), 2 ** (bits - 1) - 1, 2**bits - 1, 65_500)
        value = wrong[int(rng.integers(len(wrong)))] % 2**bits
        struct.pack_into(type_.upper(), falsified, at, value)
        changes.append(f"{value} at {at}")
    if content.startswith(b"\x89PNG") and rng.random() < 0.8:
        # Without a valid checksum of the header, decoders read no further.
        struct.pack_into(">I", falsified, 29, zlib.crc32(falsified[12:29]))
    return ", ".join(changes), bytes(falsified)


_DAMAGES: Final = {
    "truncated": _truncate, "flipped": _flip, "replaced": _replace, "spliced": _splice, "false-header": _falsify,
}  # fmt: skip

Variants = list[tuple[str, Callable[[], bytes | None]]]
"""Name of a file, and a function that returns its bytes."""


def _bombs(rng: np.random.Generator, max_pixels: int) -> Variants:
    """Returns small files that decode to large images or data, or whose header claims to."""
    side = int(max_pixels**0.5)
    dot = Image.new("RGB", (16, 16), (9, 9, 9))
    big = int(rng.choice([side + 1, 14_000, 16_383, 30_000, 65_500, 2**31 - 1]))

    def header(
        format_name: str, signature: bytes, fields: str, offset: int, max_short: int = 65_500
    ) -> Callable[[], bytes]:
        def make() -> bytes:
            content = bytearray(encode(dot, format_name))
            size = min(big, max_short if fields[1] == "H" else 2**31 - 1)
            struct.pack_into(fields, content, content.index(signature) + offset, size, size)
            return bytes(content)

        return make

    def zeros(width: int, height: int) -> bytes:
        return png(width, height, 8, 0, zlib.compress(bytes((width + 1) * height)))

    def icon(image: bytes) -> bytes:
        return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(image), 22) + image

    def fits() -> bytes:
        cards = [
            "XTENSION= 'BINTABLE'",
            "ZIMAGE  = T",
            "ZCMPTYPE= 'GZIP_1  '",
            "NAXIS   = 2",
            "NAXIS1  = 8",
            "NAXIS2  = 1",
        ]
        cards += ["PCOUNT  = 9", "ZBITPIX = 8", "ZNAXIS  = 2", "ZNAXIS1 = 64", "ZNAXIS2 = 64", "BITPIX  = 8", "END"]
        first = "".join(card.ljust(80) for card in ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0", "END")).ljust(2880)
        second = "".join(card.ljust(80) for card in cards).ljust(2880)
        return (first + second).encode() + gzip.compress(bytes(2**26))

    missing_strip = exif(
        (256, 4, 1, struct.pack("<I", 100_000)), (257, 4, 1, struct.pack("<I", 16)), (258, 3, 1, b"\x08"),
        (259, 3, 1, b"\x01"), (262, 3, 1, b"\x01"), (273, 4, 1, struct.pack("<I", 8)), (278, 4, 1, b"\x10"),
        (279, 4, 1, struct.pack("<I", 2**30)), tail=bytes(100),
    )  # fmt: skip
    text = zlib.compress(bytes(2**26))
    largest: dict[str, Callable[[], bytes]] = {
        "gray png": lambda: zeros(side, side),
        "1-bit png": lambda: png(side, side, 1, 0, zlib.compress(bytes((side // 8 + 2) * side))),
        "tiff": lambda: encode(Image.new("L", (side, side)), "TIFF", compression="tiff_adobe_deflate"),
    }
    largest_name = str(rng.choice(list(largest)))
    return [
        (f"png header of {big} x {big}", lambda: png(big, big, 8, 2, zlib.compress(bytes(1000)))),
        (f"{largest_name} at the limit", largest[largest_name]),
        (f"png of {side + 1} x {side} zeros", lambda: zeros(side + 1, side)),
        ("png text", lambda: insert_chunks(encode(dot, "PNG"), chunk(b"zTXt", b"a\0\0" + text))),
        ("png profile", lambda: insert_chunks(encode(dot, "PNG"), chunk(b"iCCP", b"a\0\0" + text))),
        ("png with excess pixels", lambda: png(16, 16, 8, 0, text)),
        (f"jpeg of {big}", header("JPEG", b"\xff\xc0", ">HH", 5)),
        (f"gif screen of {big}", header("GIF", b"GIF8", "<HH", 6)),
        (f"gif frame of {big}", header("GIF", b",\0\0\0\0", "<HH", 5)),
        (f"bmp of {big}", header("BMP", b"BM", "<II", 18)),
        (f"jpeg 2000 of {big}", header("JPEG2000", b"ihdr", ">II", 4)),
        (f"jpeg 2000 stream of {big}", header("JPEG2000", b"\xff\x51", ">II", 6)),
        (f"avif of {big}", header("AVIF", b"ispe", ">II", 8)),
        (f"qoi of {big}", header("QOI", b"qoif", ">II", 4)),
        ("webp of 16383", header("WEBP", b"\x9d\x01\x2a", "<HH", 3, max_short=16_383)),
        (f"icon with a png of {big}", lambda: icon(png(big, big, 8, 2, b""))),
        (f"icon with a bitmap of {big}", lambda: icon(header("BMP", b"BM", "<II", 18)()[14:])),
        ("tiff of one missing strip", lambda: missing_strip),
        ("fits", fits),
        ("psd", lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, side, side, 8, 3) + bytes(14) + b"\0\1"),
    ]  # fmt: skip


def slow_image(width: int, height: int) -> bytes:
    """Returns an image of one byte per pixel that Pillow decodes in Python, about a microsecond per pixel."""
    return b"qoif" + struct.pack(">II", width, height) + b"\3\0" + b"\x5b" * (width * height)


def _slow(rng: np.random.Generator, max_pixels: int) -> Variants:
    """Returns files within the decoder's limits that take long to decode for their size."""
    side = int(min(max_pixels, 1_000_000) ** 0.5)

    def scans(count: int) -> bytes:
        """Repeats the last scan of a progressive JPEG; each repetition visits every block."""
        content = encode(Image.new("L", (side, side), 77), "JPEG", progressive=True)
        last = content.rindex(b"\xff\xda")
        return content[:last] + content[last:-2] * count + b"\xff\xd9"

    def frames() -> bytes:
        shades = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in range(100)]
        return encode(shades[0], "GIF", save_all=True, append_images=shades[1:])

    def gif_comments() -> bytes:
        content = encode(dot, "GIF")
        at = content.index(b",\0\0\0\0")
        return content[:at] + b"\x21\xfe" + (b"\xff" + bytes(255)) * 8000 + b"\0" + content[at:]

    dot = Image.new("RGB", (64, 64))
    jpeg = encode(dot, "JPEG")
    pixels = rng.integers(0, 10, side * side // 8)
    return [
        ("jpeg of 90 scans", lambda: scans(80)),
        ("jpeg of 3000 scans", lambda: scans(3000)),
        ("jpeg of 60 profiles", lambda: insert_segments(jpeg, segments(b"\xff\xe1Exif\0\0", bytes(60 * 65_000)))),
        ("qoi", lambda: slow_image(side, side // 4)),
        ("text of numbers", lambda: f"P2 {side} {side // 8} 9\n".encode() + b" ".join(b"%d" % v for v in pixels)),
        ("png of tiny chunks", lambda: insert_chunks(encode(dot, "PNG"), chunk(b"prVt", b"") * 30_000)),
        ("gif of many frames", frames),
        ("gif with comments", gif_comments),
        ("tiff of one row per strip", lambda: encode(Image.new("L", (64, 4000)), "TIFF", strip_size=1)),
    ]  # fmt: skip


def _no_images(rng: np.random.Generator, _: int) -> Variants:
    """Returns other contents that end up in a column of images."""
    zipped = io.BytesIO(b"PK\x03\x04" + rng.bytes(500) + SECRET)
    contents: list[tuple[str, bytes | None]] = [
        ("null", None),
        ("empty", b""),
        ("one byte", rng.bytes(1)),
        ("two letters", b"BM"),
        ("html", b"<!DOCTYPE html><html><body>404 " + SECRET + b"</body></html>"),
        ("json", b'{"error": "' + SECRET + b'"}'),
        ("text", SECRET * 50),
        ("base64", b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA" + SECRET),
        ("svg", b'<svg xmlns="http://www.w3.org/2000/svg"><text>' + SECRET + b"</text></svg>"),
        ("pdf", b"%PDF-1.7\n" + SECRET + rng.bytes(500) + b"\n%%EOF"),
        ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(" + SECRET + b") show\n%%EOF\n"),
        ("zip", zipped.getvalue()),
        ("gzip of zeros", gzip.compress(bytes(2**24))),
        ("elf", b"\x7fELF\2\1\1" + rng.bytes(500)),
        ("mp4", b"\0\0\0\x18ftypmp42\0\0\0\0" + rng.bytes(500)),
        ("heic", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + rng.bytes(500)),
        ("zeros", bytes(int(rng.integers(1, 5000)))),
        ("random", rng.bytes(int(rng.integers(1, 5000)))),
        ("jpeg signature", b"\xff\xd8\xff\xe0" + rng.bytes(500)),
        ("png signature", b"\x89PNG\r\n\x1a\n" + rng.bytes(500)),
        ("webp signature", b"RIFF\0\1\0\0WEBPVP8 " + rng.bytes(500)),
        ("tiff signature", b"II*\0\x08\0\0\0" + rng.bytes(500)),
        ("tiff with circular directories", exif((330, 4, 1, b"\x08"))[:-4] + struct.pack("<I", 8)),
        ("photoshop signature", b"8BPS\0\1" + rng.bytes(500)),
    ]
    return [(name, lambda content=content: content) for name, content in contents]  # type: ignore[misc]


_WEIGHTS: Final = {
    "good": 30, "truncated": 14, "flipped": 18, "replaced": 8, "spliced": 5, "false-header": 14, "bomb": 4, "slow": 1,
    "no-image": 6,
}  # fmt: skip
_KINDS: Final = list(_WEIGHTS)
_SHARES: Final = np.array(list(_WEIGHTS.values())) / sum(_WEIGHTS.values())


def batches(images: Sequence[HostileImage], size: int) -> Iterator[tuple[int, list[HostileImage]]]:
    """Yields batches of up to `size` items with the index of the first; items are generated on demand."""
    for first in range(0, len(images), size):
        yield first, [images[index] for index in range(first, min(first + size, len(images)))]
