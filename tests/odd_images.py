"""Unusual and invalid images, generated from a seed, with their expected status and pixels.

Most show the same colored quadrants, so that tests check decoded pixels without another decoder.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 32
RED, GREEN, BLUE, GRAY = (220, 30, 40), (30, 200, 60), (40, 60, 210), (120, 120, 120)
WHITE = (255, 255, 255)
QUADRANTS = (RED, GREEN, BLUE, GRAY)
"""Colors of the top left, top right, bottom left and bottom right quarter."""

Corners = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True)
class OddImage:
    """One case.

    Attributes:
        name: Test id.
        content: Encoded bytes.
        status: "ok", or the expected error status.
        size: Width and height of the upright image.
        corners: Colors at the centers of the four quarters; None if they are not checked.
        tolerance: Largest color difference that a lossy or palette encoding may have.
    """

    name: str
    content: bytes | None
    status: str = "ok"
    size: tuple[int, int] = (WIDTH, HEIGHT)
    corners: Corners | None = QUADRANTS
    tolerance: int = 12


def quadrants(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    top_left, top_right, bottom_left, bottom_right = QUADRANTS
    pixels[: height // 2, : width // 2] = top_left
    pixels[: height // 2, width // 2 :] = top_right
    pixels[height // 2 :, : width // 2] = bottom_left
    pixels[height // 2 :, width // 2 :] = bottom_right
    return Image.fromarray(pixels)


def encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, color: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """Builds a PNG chunk by chunk, with arbitrary values in its header."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks)


def ico(picture: bytes, side: int) -> bytes:
    """Builds an icon whose directory claims `side`, whatever the size of the PNG in it."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, side, side, 0, 0, 1, 32, len(picture), 22) + picture


def bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    """Builds a small file whose header claims a huge image."""
    return png(width, height, 8, 2, b"\0" * 1000)


def stored_for_orientation(orientation: int) -> Image.Image:
    """Returns the quadrants as a camera stores them with this EXIF orientation, by the table of the EXIF standard.

    The table defines which visual side row 0 and column 0 of the stored image are.
    """
    row_0, column_0 = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    upright = np.asarray(quadrants())
    height, width = upright.shape[:2]
    stored_height, stored_width = (height, width) if row_0 in {"top", "bottom"} else (width, height)
    stored = np.zeros((stored_height, stored_width, 3), dtype=np.uint8)
    for row in range(stored_height):
        for column in range(stored_width):
            position = {}
            for side, distance in ((row_0, row), (column_0, column)):
                match side:
                    case "top":
                        position["y"] = distance
                    case "bottom":
                        position["y"] = height - 1 - distance
                    case "left":
                        position["x"] = distance
                    case _:
                        position["x"] = width - 1 - distance
            stored[row, column] = upright[position["y"], position["x"]]
    return Image.fromarray(stored)


def _exif(orientation: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _oriented() -> Iterator[OddImage]:
    for orientation in range(1, 9):
        stored, exif = stored_for_orientation(orientation), _exif(orientation)
        yield OddImage(f"jpeg-orientation-{orientation}", encode(stored, "JPEG", quality=95, exif=exif))
        for name in ("PNG", "WEBP", "TIFF"):
            options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
            yield OddImage(
                f"{name.lower()}-orientation-{orientation}", encode(stored, name, exif=exif, **options), tolerance=0
            )
    yield OddImage("jpeg-orientation-0-is-ignored", encode(quadrants(), "JPEG", quality=95, exif=_exif(0)))
    yield OddImage("jpeg-orientation-99-is-ignored", encode(quadrants(), "JPEG", quality=95, exif=_exif(99)))
    letters = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"up\0\0", 0)
    yield OddImage("jpeg-orientation-of-letters", encode(quadrants(), "JPEG", quality=95, exif=letters))
    yield OddImage("jpeg-damaged-exif", encode(quadrants(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))


def _color_spaces() -> Iterator[OddImage]:
    image = quadrants()
    yield OddImage("jpeg-progressive", encode(image, "JPEG", quality=95, progressive=True))
    yield OddImage("jpeg-cmyk", encode(image.convert("CMYK"), "JPEG", quality=95))
    yield OddImage("tiff-cmyk", encode(image.convert("CMYK"), "TIFF"), tolerance=1)
    yield OddImage("tiff-lab", encode(image.convert("LAB"), "TIFF"))
    yield OddImage("tiff-ycbcr", encode(image.convert("YCbCr"), "TIFF"))
    yield OddImage("png-palette", encode(image.quantize(4), "PNG"), tolerance=2)
    for name in ("BMP", "PPM", "TGA", "SGI", "PCX", "QOI"):
        yield OddImage(name.lower(), encode(image, name), tolerance=0)
    yield OddImage("ico", encode(image, "ICO", sizes=[(WIDTH, HEIGHT)]), tolerance=0)
    yield OddImage("jpeg-2000", encode(image, "JPEG2000"), tolerance=2)
    yield OddImage("mpo-first-image", encode(image, "MPO", save_all=True, append_images=[image.rotate(180)]))
    luma = tuple((value, value, value) for value in np.asarray(image.convert("L"))[[8, 8, 24, 24], [12, 36, 12, 36]])
    gray: Corners = (luma[0], luma[1], luma[2], luma[3])
    yield OddImage("jpeg-gray", encode(image.convert("L"), "JPEG", quality=95), corners=gray)
    wide = np.asarray(image.convert("L")).astype(np.uint16) * 257
    yield OddImage("png-gray-16-bit", encode(Image.fromarray(wide), "PNG"), corners=gray, tolerance=0)
    yield OddImage("tiff-gray-16-bit", encode(Image.fromarray(wide), "TIFF"), corners=gray, tolerance=0)
    yield OddImage("pgm-16-bit", encode(Image.fromarray(wide), "PPM"), corners=gray, tolerance=0)
    yield OddImage(
        "tiff-gray-32-bit", encode(Image.fromarray(wide.astype(np.int32)), "TIFF"), corners=gray, tolerance=0
    )
    unit = (np.asarray(image.convert("L")) / 255.0).astype(np.float32)
    yield OddImage("tiff-float-0-to-1", encode(Image.fromarray(unit), "TIFF"), corners=gray, tolerance=0)
    yield OddImage("tiff-float-0-to-255", encode(Image.fromarray(unit * 255), "TIFF"), corners=gray, tolerance=0)
    unit[0, 0] = np.nan
    yield OddImage("tiff-float-with-nan", encode(Image.fromarray(unit), "TIFF"), corners=gray, tolerance=0)
    yield from _levels()
    pixels = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    yield OddImage("png-rgb-16-bit", png(WIDTH, HEIGHT, 16, 2, rows), tolerance=0)
    bits = ((0, 0, 0), WHITE, WHITE, (0, 0, 0))
    checks = np.kron(np.array([[0, 255], [255, 0]], dtype=np.uint8), np.ones((HEIGHT // 2, WIDTH // 2), dtype=np.uint8))
    yield OddImage("png-1-bit", encode(Image.fromarray(checks).convert("1"), "PNG"), corners=bits, tolerance=0)


def _levels() -> Iterator[OddImage]:
    """Yields grayscale of more than 8 bits: which value is white depends on the data type, then on the usual ranges."""
    for name, format_name, dtype, largest, white in (
        ("png-16-bit-dark", "PNG", np.uint16, 255, 65535),
        ("tiff-16-bit-dark", "TIFF", np.uint16, 255, 65535),
        ("pgm-16-bit-dark", "PPM", np.uint16, 255, 65535),
        ("tiff-32-bit-of-8", "TIFF", np.int32, 255, 255),
        ("tiff-32-bit-of-16", "TIFF", np.int32, 256, 65535),
        ("tiff-32-bit-whole", "TIFF", np.int32, 2**31 - 1, 2**31 - 1),
        ("tiff-32-bit-dark", "TIFF", np.int32, 65536, 2**31 - 1),
        ("tiff-float-whole-numbers", "TIFF", np.float32, 2.0, 255),
        ("tiff-float-of-16-bit", "TIFF", np.float32, 60_000.0, 65535),
        ("tiff-float-beyond-16-bit", "TIFF", np.float32, 1e6, 1e6),
    ):
        shares = np.kron(np.array([[0.0, 1.0], [0.5, 0.25]]), np.ones((HEIGHT // 2, WIDTH // 2)))
        image = Image.fromarray((shares * largest).astype(dtype))
        gray = [round(share * largest / white * 255) for share in (0.0, 1.0, 0.5, 0.25)]
        corners: Corners = ((gray[0],) * 3, (gray[1],) * 3, (gray[2],) * 3, (gray[3],) * 3)
        yield OddImage(name, encode(image, format_name), corners=corners, tolerance=1)


def _transparent() -> Iterator[OddImage]:
    over_white: Corners = (WHITE, GREEN, BLUE, GRAY)
    image = quadrants().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, WIDTH // 2, HEIGHT // 2))
    yield OddImage("png-rgba", encode(image, "PNG"), corners=over_white, tolerance=0)
    yield OddImage("webp-rgba", encode(image, "WEBP", lossless=True), corners=over_white, tolerance=0)
    yield OddImage("tiff-rgba", encode(image, "TIFF"), corners=over_white, tolerance=0)
    half = quadrants().convert("RGBA")
    half.putalpha(128)
    blended = tuple(tuple(round(255 + (c - 255) * 128 / 255) for c in color) for color in QUADRANTS)
    yield OddImage("png-half-transparent", encode(half, "PNG"), corners=blended, tolerance=2)  # type: ignore[arg-type]
    palette = quadrants().quantize(4)
    first = palette.getpixel((0, 0))
    yield OddImage(
        "png-palette-transparent", encode(palette, "PNG", transparency=first), corners=over_white, tolerance=2
    )
    alphas = bytes(0 if index == first else 255 for index in range(4))
    yield OddImage("png-palette-alphas", encode(palette, "PNG", transparency=alphas), corners=over_white, tolerance=2)
    yield OddImage("gif-transparent", encode(palette, "GIF", transparency=first), corners=over_white, tolerance=2)
    yield OddImage("png-rgb-key-color", encode(quadrants(), "PNG", transparency=RED), corners=over_white, tolerance=0)
    gray_alpha = Image.merge("LA", [Image.new("L", (WIDTH, HEIGHT), 90), image.getchannel("A")])
    expected: Corners = (WHITE, (90, 90, 90), (90, 90, 90), (90, 90, 90))
    yield OddImage("png-gray-alpha", encode(gray_alpha, "PNG"), corners=expected, tolerance=0)
    # Premultiplied grayscale. Pillow reads but does not write it; only one tag differs.
    kinds = [struct.pack("<HHII", 338, 3, 1, kind) for kind in (2, 1)]
    associated = encode(gray_alpha, "TIFF").replace(*kinds)
    yield OddImage("tiff-gray-associated-alpha", associated, corners=expected, tolerance=1)
    with_alpha = palette.convert("PA")
    with_alpha.putalpha(image.getchannel("A"))
    yield OddImage("tiff-palette-alpha", encode(with_alpha, "TIFF"), corners=over_white, tolerance=2)
    wide = np.full((HEIGHT, WIDTH), 90 * 257, dtype=">u2")
    wide[: HEIGHT // 2, : WIDTH // 2] = 1234
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    key = png(WIDTH, HEIGHT, 16, 0, rows, (b"tRNS", struct.pack(">H", 1234)))
    yield OddImage("png-gray-16-bit-key", key, corners=expected, tolerance=0)


def _animated() -> Iterator[OddImage]:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), (shade, 0, 0)) for shade in (0, 100, 200)]
    for name in ("GIF", "WEBP", "PNG"):
        options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
        content = encode(quadrants(), name, save_all=True, append_images=frames, duration=100, **options)
        yield OddImage(f"{name.lower()}-animated-first-frame", content, tolerance=2)
    pages = encode(quadrants(), "TIFF", save_all=True, append_images=frames)
    yield OddImage("tiff-several-pages-first-page", pages, tolerance=0)


def _extreme() -> Iterator[OddImage]:
    for name in ("PNG", "JPEG", "WEBP", "GIF"):
        yield OddImage(f"{name.lower()}-1-px", encode(Image.new("RGB", (1, 1), RED), name), size=(1, 1), corners=None)
    for width, height in ((5000, 1), (1, 5000), (3, 4000)):
        content = encode(Image.new("RGB", (width, height), RED), "PNG")
        yield OddImage(f"png-{width}-x-{height}", content, size=(width, height), corners=(RED,) * 4, tolerance=0)


def _undecoded_variants() -> Iterator[OddImage]:
    """Yields whole images of kinds that no decoder here reads."""
    tiff, jpeg, bmp = (encode(quadrants(), name) for name in ("TIFF", "JPEG", "BMP"))
    frame = jpeg.index(b"\xff\xc0")
    compression = tiff.index(struct.pack("<HHI", 259, 3, 1)) + 8
    for name, content in (
        ("tiff-of-an-unknown-compression", tiff[:compression] + struct.pack("<H", 34887) + tiff[compression + 2 :]),
        ("jpeg-12-bit", jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]),
        ("jpeg-lossless", jpeg[: frame + 1] + b"\xc3" + jpeg[frame + 2 :]),
        ("bmp-with-a-jpeg", bmp[:30] + b"\4\0\0\0" + bmp[34:]),
        ("psd-lab", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, HEIGHT, WIDTH, 32, 9) + bytes(200)),
        ("jpeg-xl", b"\xff\x0a" + bytes(60)),
        ("jpeg-xr", b"II\xbc\x01" + bytes(60)),
        ("raw-canon", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"),
        ("dicom", bytes(128) + b"DICM" + bytes(60)),
        ("mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"),
    ):
        yield OddImage(name, content, "unsupported")


def _broken(rng: np.random.Generator) -> Iterator[OddImage]:
    yield OddImage("null", None, "missing")
    yield OddImage("zero-bytes", b"", "corrupt")
    for name, content in (
        ("html", b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>No such image</body></html>"),
        ("text", b"BMW 520d, 1998, one owner"),
        ("json", b'{"error": "access denied"}'),
        ("svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="5" height="5"/></svg>'),
        ("pdf", b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\n%%EOF"),
        ("zip", b"PK\x03\x04\x14\0\0\0\x08\0" + rng.bytes(60)),
        ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"),
        ("zeros", b"\0" * 4096),
        ("mpeg", b"\x00\x00\x01\xb3\x14\x00\xf0\x13" + rng.bytes(60)),
    ):
        yield OddImage(name, content, "unsupported")
    yield from _undecoded_variants()
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"):
        content = encode(noise, name)
        for share in (0.02, 0.5, 0.9):
            kept = max(16, int(len(content) * share))
            yield OddImage(f"{name.lower()}-truncated-to-{share:.0%}", content[:kept], "corrupt")
    yield OddImage("png-bomb", bomb(), "too_large")
    yield OddImage("png-bomb-beyond-pillow's-own-limit", bomb(60_000, 60_000), "too_large")
    yield OddImage("ico-with-a-bomb", ico(bomb(9_000, 9_000), 16), "too_large")
    webp = bytearray(encode(quadrants(), "WEBP", lossless=True, exif=_exif(1)))
    webp[24:30] = (16_382).to_bytes(3, "little") * 2
    yield OddImage("webp-header-claims-268-megapixels", bytes(webp), "too_large")
    wrong_crc = bytearray(encode(quadrants(), "PNG"))
    wrong_crc[29] ^= 0xFF
    yield OddImage("png-header-checksum-wrong", bytes(wrong_crc), "corrupt")
    short = png(4000, 4000, 8, 2, b"\0" * 1000)
    yield OddImage("png-header-claims-missing-data", short, "corrupt")


def odd_images(seed: int = 20260911) -> list[OddImage]:
    """Returns all cases; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    return [
        *_oriented(),
        *_color_spaces(),
        *_transparent(),
        *_animated(),
        *_extreme(),
        *_broken(rng),
    ]
