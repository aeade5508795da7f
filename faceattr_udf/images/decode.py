"""Encoded bytes -> upright RGB pixels; whatever is wrong with the bytes becomes an `ImageError` with a status."""

import contextlib
import ctypes
import io
import logging
import re
import warnings
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from faceattr_udf.config import ImagesConfig
from faceattr_udf.errors import ImageError
from faceattr_udf.results import NO_CONTENT, ImageStatus

UInt8Array = npt.NDArray[np.uint8]

# Plugins register themselves in Pillow's globals: once, while the module is imported, never while threads decode.
Image.init()


def _silence_libraries() -> None:
    """What they say about a damaged file, its result says, too; lines on stderr for each of them would fill a disk."""
    # Last in line: whoever asks for these warnings, or handles this log, still gets them.
    warnings.filterwarnings("ignore", module=r"PIL\.", append=True)
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # libtiff prints by itself. Where it is a part of Pillow, as on Windows, it cannot be reached and goes on printing.
    with contextlib.suppress(AttributeError, OSError):
        pillow = ctypes.CDLL(Image.core.__file__)  # type: ignore[attr-defined]  # it has no public name
        pillow.TIFFSetErrorHandler(None)
        pillow.TIFFSetWarningHandler(None)


_silence_libraries()

_REFUSED: Final = {
    "EPS",  # runs Ghostscript, an external program, on the bytes
    "BLP",  # a game's textures, with JPEGs in them that nothing here would have looked at
    "IPTC",  # opens whatever is wrapped in it with every plugin, EPS too
    "BUFR",  # this one and those below are only recognised: Pillow has no decoder for them, or only on one system
    "GRIB",
    "HDF5",
    "MPEG",
    "WMF",
}
_FORMATS: Final = tuple(
    # The sort is stable: what nearly every image is comes first.
    sorted((name for name in Image.ID if name not in _REFUSED), key=lambda name: name not in {"JPEG", "PNG", "WEBP"})
)

# What tells a damaged image from something that never was one, where Pillow says "cannot identify" to both.
_SIGNATURES: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*|....ftypavi[fs]"
    rb"|\0\0\0\x0cjP {2}\r\n\x87\n|\xff\x4f\xff\x51|8BPS\x00\x01",
    re.DOTALL,
)
_PNG_HEADER: Final = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)
_JPEG_2000_HEADER: Final = re.compile(rb"ihdr(.{4})(.{4})|\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL)

_MOST_SCANS: Final = 100
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")

# EXIF orientation -> (rows and columns swapped, then flipped left to right, then flipped top to bottom).
_UPRIGHT: Final = {
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def to_grey(image: UInt8Array) -> UInt8Array:
    """Luma (ITU-R 601) of an RGB image (height, width, 3), in three equal channels."""
    luma = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def probe_size(content: bytes | None) -> tuple[int, int] | None:
    """Reads an image's size from its header, without decoding pixels.

    Args:
        content: The encoded image.

    Returns:
        Width and height in pixels as stored, before any EXIF rotation; None where the header cannot be read.
    """
    if not content:
        return None
    parts = _parts_of_an_icon(content)
    if parts:
        return max(parts, key=lambda size: size[0] * size[1])
    try:
        with _open(content) as image:
            return image.size
    except Exception:  # whatever is wrong with the bytes, decode_image finds it again and says what
        return None


def decode_image(content: bytes | None, limits: ImagesConfig) -> UInt8Array:
    """Decodes everything Pillow reads: colour spaces become RGB, transparency becomes white, animations a still.

    Grey of more than 8 bits is scaled to 8 by the range of its container (or, where the container is wider than 16
    bits, by the smallest of the usual ranges that holds the values); nothing is stretched to the image's own contrast.

    Safe to call from many threads: nothing global is changed.

    Args:
        content: The encoded image; None where the table has no content.
        limits: Bounds that are checked before any pixel is decoded. Pillow's own bound (twice
            `Image.MAX_IMAGE_PIXELS`) holds as well.

    Returns:
        uint8 (height, width, 3), contiguous, RGB, upright by EXIF.

    Raises:
        ImageError: With the status missing, corrupt, unsupported or too_large, and a message without any content of
            the image. Nothing else is raised for any content.
    """
    if content is None:
        raise ImageError(ImageStatus.MISSING, NO_CONTENT)
    if len(content) == 0:
        raise ImageError(ImageStatus.CORRUPT, "the content is empty (0 bytes)")
    if len(content) > limits.max_bytes:
        msg = f"{len(content)} bytes are more than images.max_bytes = {limits.max_bytes}"
        raise ImageError(ImageStatus.TOO_LARGE, msg)
    try:
        _check_scans(content)
        for width, height in _parts_of_an_icon(content):
            _check_pixels(width, height, limits)
        with _open(content) as image:
            _check_pixels(image.width, image.height, limits)
            return _upright_rgb(image, limits)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise _unidentified(content) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        msg = "the image has more pixels than Pillow agrees to decode"
        raise ImageError(ImageStatus.TOO_LARGE, msg) from None
    except MemoryError:
        raise ImageError(ImageStatus.TOO_LARGE, "the image does not fit into memory") from None
    except Exception as error:
        # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more. Their messages
        # quote bytes of the file, so only the class is told, and the chain is cut.
        msg = f"the image data is damaged or cut short ({type(error).__name__})"
        raise ImageError(ImageStatus.CORRUPT, msg) from None


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except (SyntaxError, ValueError, OSError) as error:
        # A plugin that claims a file by two letters and then cannot read the header proves nothing.
        if _SIGNATURES.match(content):
            raise
        raise UnidentifiedImageError from error


def _unidentified(content: bytes) -> ImageError:
    if _SIGNATURES.match(content):
        return ImageError(ImageStatus.CORRUPT, "the image's header is damaged or cut short")
    if content.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return ImageError(ImageStatus.UNSUPPORTED, "PostScript is not decoded: it would run an external program")
    return ImageError(ImageStatus.UNSUPPORTED, "the content is not in an image format that can be decoded")


def _parts_of_an_icon(content: bytes) -> list[tuple[int, int]]:
    """Sizes of the pictures in an icon: Pillow decodes them whatever the icon's directory says."""
    if not content.startswith((b"\0\0\1\0", b"icns")):
        return []
    sizes = [*_PNG_HEADER.findall(content)]
    if content.startswith(b"icns"):
        sizes += [(b or c, a or d) for a, b, c, d in _JPEG_2000_HEADER.findall(content)]
    return [(int.from_bytes(width), int.from_bytes(height)) for width, height in sizes]


def _check_scans(content: bytes) -> None:
    """Refuses a JPEG that goes over its blocks again and again: a file of one megabyte could do so for an hour.

    Encoders make about ten scans, and those that try everything some dozens.
    """
    if not content.startswith(b"\xff\xd8") or content.count(b"\xff\xda") <= _MOST_SCANS:
        return
    # Metadata and what follows the picture may have those two bytes by chance: now as the decoder sees it.
    scans, position = 0, 2
    while marker := _JPEG_MARKER.search(content, position):
        kind, start = marker.group()[1], marker.end()
        if kind == 0xD9:
            return
        scans += kind == 0xDA
        if scans > _MOST_SCANS:
            msg = f"a JPEG of more than {_MOST_SCANS} scans, as only a harmful one has, is not decoded"
            raise ImageError(ImageStatus.CORRUPT, msg)
        position = start + max(2, int.from_bytes(content[start : start + 2]))


def _check_pixels(width: int, height: int, limits: ImagesConfig) -> None:
    if width * height > limits.max_pixels:
        msg = f"{width} x {height} pixels are more than images.max_pixels = {limits.max_pixels}"
        raise ImageError(ImageStatus.TOO_LARGE, msg)


def _upright_rgb(image: Image.Image, limits: ImagesConfig) -> UInt8Array:
    image.load()
    _check_pixels(image.width, image.height, limits)  # a few formats learn their size only while decoding
    if image.width == 0 or image.height == 0:
        raise ImageError(ImageStatus.CORRUPT, "the image has no pixels")
    pixels = _rgb(image)
    swapped, mirrored, flipped = _UPRIGHT.get(_orientation(image), (False, False, False))
    if swapped:
        pixels = pixels.transpose(1, 0, 2)
    if mirrored:
        pixels = pixels[:, ::-1]
    if flipped:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _orientation(image: Image.Image) -> int:
    # Read after the pixels: TIFF turns itself upright while loading and then says so.
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata must not cost the picture
        return 1


def _rgb(image: Image.Image) -> UInt8Array:
    if image.mode == "F" or image.mode.startswith("I"):
        return _rgb_of_wide_grey(image)
    if not image.has_transparency_data:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    if image.mode == "La":  # grey times alpha, from which Pillow has no direct way to RGBA
        image = image.convert("LA")
    transparent = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, transparent).convert("RGB"))


def _rgb_of_wide_grey(image: Image.Image) -> UInt8Array:
    """Scales 16-bit, 32-bit and floating-point grey; what is negative or not a number is black."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in {"PNG", "PPM"}):
        full = 65535.0
    else:
        usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0, 2.0**31 - 1)
        full = next((bound for bound in usual if largest <= bound), largest)
    grey = np.clip(np.rint(values * np.float32(255.0 / full)), 0, 255).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):  # a PNG may name one shade of grey that is see-through
        grey[values == key] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)
