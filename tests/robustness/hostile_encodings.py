"""Encodes an image in every format and variant that cameras, scanners and editors write: unusual, but undamaged."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from PIL import Image, ImageCms

SECRET: Final = b"CUSTOMER-4711-SECRET"
"""Written into texts and metadata; no message and no log line may contain it."""

Encoder = Callable[[Image.Image, np.random.Generator], bytes]

# JPEGs of 64 x 48 pixels, written by libjpeg: Pillow reads arithmetic coding, but cannot write it.
ARITHMETIC: Final = {
    "sequential": base64.b85decode(
        "|JeWF01!$>Nk#wx0RR9200961|JwjV02B@n5)Ta&5)cv>6%-gAG9exu93DL^E+jHZKuk+VKt@GST61DhRc%&9Mr4R(ZFhTtf`Lw8jhBplmUDiA"
        "eE-`3Lje^R7akfOJ0T%Ed{ahKe0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0=}O01*fPFaSUU0U`hb5di}c"
        "0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zfzdavYI1lT2fk)A3xo%Th|6(yqm4wJG&i_G3d@z;(*GexOVY{XUZ4Y-J^Hom`jmNJ68|Je"
    ),
    "progressive": base64.b85decode(
        "|JeWF01!$>Nk#wx0RR9200961|JwjV02B@n5)Ta&5)cv>6%-gAG9exu93DL^E+jHZKuk+VKt@GST61DhRc%&9Mr4R(ZFhTtf`Lw8jhBplmUDiA"
        "eE-`3Lje^R7akfOJ0T%Ed{ahKe0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0=}P01*fPFaSUU0U`hb5di}c"
        "0sqVZ1^^HN5dYc$3<CiG0uTcb0005|WXYFU;r7Ed`Tnf~)ier{lxk%^V+^T@rCFT+%m4%s1^?Or2mt{A0R;l6|I7dc5e5I+00;pC0RcY&)i;vK"
        "PTId_|I7dc5e5I+00;pB0RcY&%%xoa%m4%s1^?Or2mt{A20sF*|I7dc5C#9*00;pA00BQCsQ=mk3<CiG0ssR5000pBM;~<aQ@O~!|I7dc5e5I+"
        "00;pC0RcY{w1B9nbvuA7F2MiH00a>Q|Jncu0RjO5KM=P!fd9+@1P}%P+5iXv0RRC%5UBsz"
    ),
}


def encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def plain(format_name: str, mode: str | None = None, **options: Any) -> Encoder:
    return lambda image, _: encode(image if mode is None else image.convert(mode), format_name, **options)


def chunk(name: bytes, data: bytes) -> bytes:
    """Returns one chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, color_type: int, data: bytes, *extra: bytes) -> bytes:
    """Returns a PNG whose header need not match its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def insert_chunks(content: bytes, *chunks: bytes) -> bytes:
    """Inserts chunks into a PNG, after its header."""
    return content[:33] + b"".join(chunks) + content[33:]


def segments(name: bytes, data: bytes) -> bytes:
    """Returns JPEG application segments, as many as the data need."""
    room = 65_533 - len(name)
    parts = [data[start : start + room] for start in range(0, max(1, len(data)), room)]
    return b"".join(name[:2] + struct.pack(">H", 2 + len(name) - 2 + len(part)) + name[2:] + part for part in parts)


def insert_segments(content: bytes, *parts: bytes) -> bytes:
    """Inserts segments into a JPEG, after its start marker."""
    return content[:2] + b"".join(parts) + content[2:]


def exif(*entries: tuple[int, int, int, bytes], tail: bytes = b"", order: str = "<") -> bytes:
    """Returns a TIFF directory; an entry is a tag, type, count and four bytes of value, none of them checked."""
    rows = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(entries)) + rows + b"\0\0\0\0" + tail


def overlapping_tags(count: int, size: int) -> bytes:
    """Returns a directory whose tags all point to the same bytes: their total size is far larger than the file."""
    entries = [(1000 + tag, 7, size, struct.pack("<I", 14 + 12 * count)) for tag in range(count)]
    return exif(*entries, tail=bytes(size))


def icc(rng: np.random.Generator) -> bytes:
    """Returns a color profile: valid, truncated, random, or huge."""
    valid = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    valid = valid[:24] + bytes(12) + valid[36:]  # the creation time, which would make the bytes differ between runs
    variant = int(rng.integers(4))
    return (valid, valid[: len(valid) // 2], rng.bytes(300), valid + bytes(int(rng.integers(1_000_000))))[variant]


def _wide(format_name: str, dtype: str) -> Encoder:
    def encoder(image: Image.Image, _: np.random.Generator) -> bytes:
        gray = np.asarray(image.convert("L"))
        scaled = {"u2": gray.astype(np.uint16) * 257, "i4": gray.astype(np.int32) * 257, "f4": gray / np.float32(255)}
        return encode(Image.fromarray(scaled[dtype]), format_name)

    return encoder


def _rgb_16(image: Image.Image, _: np.random.Generator) -> bytes:
    pixels = np.asarray(image.convert("RGB")).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(image.width, image.height, 16, 2, zlib.compress(rows))


def _with_alpha(format_name: str, mode: str = "RGBA", **options: Any) -> Encoder:
    def encoder(image: Image.Image, rng: np.random.Generator) -> bytes:
        converted = image.convert(mode)
        mask = np.full((image.height, image.width), 255, dtype=np.uint8)
        mask[: int(rng.integers(1, 1 + max(1, image.height // 3)))] = int(rng.integers(256))
        converted.putalpha(Image.fromarray(mask))
        return encode(converted, format_name, **options)

    return encoder


def _multi_frame(format_name: str, **options: Any) -> Encoder:
    def encoder(image: Image.Image, rng: np.random.Generator) -> bytes:
        colors = rng.integers(0, 256, (int(rng.integers(1, 6)), 3)).tolist()
        others = [Image.new("RGB", image.size, tuple(color)) for color in colors]
        return encode(image.convert("RGB"), format_name, save_all=True, append_images=others, **options)

    return encoder


def _oriented(format_name: str) -> Encoder:
    def encoder(image: Image.Image, rng: np.random.Generator) -> bytes:
        tags = Image.Exif()
        tags[0x0112] = int(rng.choice([*range(1, 9), 0, 9, 65_535]))
        return encode(image.convert("RGB"), format_name, exif=tags)

    return encoder


def _jpeg_exif(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Puts invalid metadata into a valid image."""
    invalid = (
        b"",
        rng.bytes(64),
        exif((0x0112, 2, 4, b"6\0")),
        exif((0x0112, 3, 0, b"")),
        exif((0x0112, 3, 2**31, b"\6")),
        exif((0x0112, 5, 1, b"\xff\xff\xff\xff")),
        exif((0x0112, 3, 1, b"\0\6"), order=">"),
        exif((0x8769, 4, 1, struct.pack("<I", 8)), (0x010E, 2, 200, struct.pack("<I", 38)), tail=SECRET * 10),
        exif((0x8769, 13, 1, b"\xff\xff\xff\xff")),
        overlapping_tags(600, 50_000),
        bytes(200_000),
    )
    content = encode(image.convert("RGB"), "JPEG", quality=85)
    return insert_segments(content, segments(b"\xff\xe1Exif\0\0", invalid[int(rng.integers(len(invalid)))]))


def _jpeg_icc(image: Image.Image, rng: np.random.Generator) -> bytes:
    return insert_segments(encode(image.convert("RGB"), "JPEG"), segments(b"\xff\xe2ICC_PROFILE\0\1\1", icc(rng)))


def _jpeg_comments(image: Image.Image, rng: np.random.Generator) -> bytes:
    comments = segments(b"\xff\xfe", SECRET * int(rng.integers(1, 3000))) * int(rng.integers(1, 20))
    xmp = segments(b"\xff\xe1http://ns.adobe.com/xap/1.0/\0", b'<x tiff:Orientation="6"' + SECRET)
    photoshop = segments(b"\xff\xedPhotoshop 3.0\x008BIM", SECRET)
    return insert_segments(encode(image.convert("RGB"), "JPEG"), comments, xmp, photoshop)


def _png_chunks(image: Image.Image, rng: np.random.Generator) -> bytes:
    chunks = (
        chunk(b"tEXt", b"Comment\0" + SECRET * 100),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000))),
        chunk(b"iTXt", b"Comment\0\0\0\0\0" + SECRET),
        chunk(b"gAMA", b"\0\0\0\0"),
        chunk(b"eXIf", exif((0x0112, 3, 1, b"\7\0"))),
        chunk(b"eXIf", overlapping_tags(500, 40_000)),
        chunk(b"pHYs", b"\0\0\0\0\xff\xff\xff\xff\1"),
        chunk(b"prVt", rng.bytes(500)),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(icc(rng))),
    )
    chosen = rng.choice(len(chunks), size=int(rng.integers(1, 4)), replace=False)
    return insert_chunks(encode(image.convert("RGB"), "PNG"), *(chunks[index] for index in chosen))


def _webp_metadata(image: Image.Image, rng: np.random.Generator) -> bytes:
    directory = exif((0x0112, 3, 1, struct.pack("<H", int(rng.integers(12)))))
    return encode(image.convert("RGB"), "WEBP", exif=directory, icc_profile=icc(rng), xmp=SECRET)


def _tiff_icc(image: Image.Image, rng: np.random.Generator) -> bytes:
    return encode(image.convert("RGB"), "TIFF", icc_profile=icc(rng), compression="tiff_adobe_deflate")


def _icns(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Writes one size only; Pillow would write all sizes up to 1024."""
    part = encode(image.convert("RGBA").resize((128, 128)), "PNG" if rng.random() < 0.5 else "JPEG2000")
    return b"icns" + struct.pack(">I", 16 + len(part)) + b"ic07" + struct.pack(">I", 8 + len(part)) + part


def _polyglot(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Returns an image that is also a file of another type."""
    script = b"<script>alert(1)</script>" + SECRET
    jpeg, gif = encode(image.convert("RGB"), "JPEG"), encode(image.convert("RGB"), "GIF")
    variants = (
        jpeg + b"PK\x03\x04" + rng.bytes(200) + b"PK\x05\x06" + bytes(18),
        insert_segments(jpeg, segments(b"\xff\xfe", b"*/<?php system($_GET[0]); ?>" + script)),
        jpeg + jpeg,
        jpeg + b"\0\0\0\x18ftypmp42" + rng.bytes(5000),
        gif + b"*/" + script,
        insert_chunks(encode(image.convert("RGB"), "PNG"), chunk(b"htMl", script)) + script,
        encode(image.convert("RGB"), "BMP") + b"\x7fELF" + rng.bytes(100),
        encode(image.convert("RGB"), "TIFF") + b"%PDF-1.7" + script,
    )
    return variants[int(rng.integers(len(variants)))]


ENCODERS: Final[dict[str, Encoder]] = {
    "jpeg": lambda image, rng: encode(image.convert("RGB"), "JPEG", quality=int(rng.integers(5, 100))),
    "jpeg-progressive": plain("JPEG", "RGB", progressive=True),
    "jpeg-cmyk": plain("JPEG", "CMYK"),
    "jpeg-gray": plain("JPEG", "L"),
    "jpeg-restarts": plain("JPEG", "RGB", restart_marker_blocks=3, subsampling=0),
    "jpeg-oriented": _oriented("JPEG"),
    "jpeg-odd-exif": _jpeg_exif,
    "jpeg-icc": _jpeg_icc,
    "jpeg-comments": _jpeg_comments,
    "jpeg-arithmetic": lambda _, rng: ARITHMETIC["sequential" if rng.random() < 0.5 else "progressive"],
    "mpo": _multi_frame("MPO"),
    "png": plain("PNG", "RGB"),
    "png-oriented": _oriented("PNG"),
    "png-palette": lambda image, _: encode(image.convert("RGB").quantize(64), "PNG"),
    "png-palette-transparent": lambda image, _: encode(image.convert("RGB").quantize(64), "PNG", transparency=3),
    "png-1-bit": plain("PNG", "1"),
    "png-gray-alpha": _with_alpha("PNG", "L"),
    "png-rgba": _with_alpha("PNG"),
    "png-gray-16": _wide("PNG", "u2"),
    "png-rgb-16": _rgb_16,
    "png-odd-chunks": _png_chunks,
    "png-animated": _multi_frame("PNG"),
    "gif": lambda image, _: encode(image.convert("RGB"), "GIF", comment=SECRET),
    "gif-animated": _multi_frame("GIF"),
    "webp": plain("WEBP", "RGB"),
    "webp-rgba": _with_alpha("WEBP", lossless=True),
    "webp-animated": _multi_frame("WEBP"),
    "webp-metadata": _webp_metadata,
    "tiff": plain("TIFF", "RGB"),
    "tiff-lzw": plain("TIFF", "RGB", compression="tiff_lzw"),
    "tiff-jpeg": plain("TIFF", "RGB", compression="jpeg"),
    "tiff-fax": plain("TIFF", "1", compression="group4"),
    "tiff-cmyk": plain("TIFF", "CMYK"),
    "tiff-lab": plain("TIFF", "LAB"),
    "tiff-gray-16": _wide("TIFF", "u2"),
    "tiff-gray-32": _wide("TIFF", "i4"),
    "tiff-float": _wide("TIFF", "f4"),
    "tiff-oriented": _oriented("TIFF"),
    "tiff-pages": _multi_frame("TIFF"),
    "tiff-icc": _tiff_icc,
    "bmp": plain("BMP", "RGB"),
    "jpeg-2000": plain("JPEG2000", "RGB"),
    "avif": plain("AVIF", "RGB", speed=10),
    "ico": lambda image, _: encode(image.convert("RGBA").resize((64, 64)), "ICO", sizes=[(64, 64)]),
    "icns": _icns,
    "qoi": plain("QOI", "RGB"),
    "ppm": plain("PPM", "RGB"),
    "tga": plain("TGA", "RGB", compression="tga_rle"),
    "pcx": plain("PCX", "RGB"),
    "sgi": plain("SGI", "RGB"),
    "dds": plain("DDS", "RGB"),
    "polyglot": _polyglot,
}
"""Encodings that the decoder must read. Some draw a random variant."""
