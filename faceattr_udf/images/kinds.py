"""Names the kinds of files that are not decoded, so that their images are `unsupported` and not `corrupt`."""

import re
from typing import Final

SIGNATURES: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*|....ftypavi[fs]"
    rb"|\0\0\0\x0cjP {2}\r\n\x87\n|\xff\x4f\xff\x51|8BPS\x00\x01",
    re.DOTALL,
)
"""Beginnings of files that are decoded. They distinguish a damaged image from other content; Pillow says "cannot
identify" in both cases."""

HEIF: Final = re.compile(rb"....ftyp(?:he[iv][cmsxf]|mif[12]|msf1)", re.DOTALL)
"""Beginning of a HEIC or HEIF file."""

_KINDS: Final = {
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG XR": rb"II\xbc\x01",
    "a camera's raw format": rb"II\*\0....CR\x02|....ftypcrx|FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR|\0MRM|FOVb",
    "PSB": rb"8BPS\0\x02",
    "OpenEXR": rb"v/1\x01",
    "Radiance HDR": rb"#\?RADIANCE",
    "DICOM": rb".{128}DICM",
    "a PDF document": rb"%PDF-",
    "an SVG drawing": rb"\s*(?:<\?xml.{0,1000}?|<!--.{0,1000}?)?<svg",
    "an HTML page": rb"(?i)\s*(?:<!doctype html|<html)",
    "a video": rb"....ftyp(?:isom|iso\d|mp4\d|avc1|qt {2}|M4V|3g[p2])|\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01[\xb3\xba]",
    "a ZIP archive": rb"PK\x03\x04",
}
_PATTERNS: Final = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in _KINDS.items()}

_JPEG_FRAME: Final = re.compile(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf])..(.)", re.DOTALL)
_DECODED_FRAMES: Final = frozenset(b"\xc0\xc1\xc2\xc9\xca")
"""Baseline, extended and progressive frames, with Huffman or arithmetic coding."""

_VARIANT: Final = re.compile(r"(?i)unsupported|not supported|cannot handle|unknown pixel mode|samples per pixel")


def undecoded_kind(content: bytes) -> str | None:
    """Names a kind of file that no installed decoder reads, by its first bytes; None if it is not known."""
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.match(content)), None)


def undecoded_jpeg(content: bytes) -> str | None:
    """Names a JPEG that the decoder does not read although it is whole: lossless, hierarchical, or not 8 bits deep."""
    frame = _JPEG_FRAME.search(content) if content.startswith(b"\xff\xd8") else None
    if frame is None:
        return None
    if frame[1][0] not in _DECODED_FRAMES:
        return "a lossless or hierarchical JPEG"
    return None if frame[2] == b"\x08" else f"a JPEG of {frame[2][0]} bits per color"


def names_variant(error: BaseException) -> bool:
    """Checks whether a decoder refused a variant of its format, such as a compression, rather than damaged data."""
    # A missing key is an unknown code in one of the decoder's tables of variants.
    return (
        isinstance(error, NotImplementedError | KeyError)
        or isinstance(error.__cause__, KeyError)
        or _VARIANT.search(str(error)) is not None
    )
