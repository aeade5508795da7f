"""Decodes image files to upright RGB pixels; every failure is an `ImageError` with a status."""

import contextlib
import ctypes
import io
import logging
import re
import warnings
from typing import Final

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.config import ImagesConfig
from faceattr_udf.errors import ImageError
from faceattr_udf.results import NO_CONTENT, ImageStatus

# Loads all plugins once at import: they register themselves in Pillow's globals, which is unsafe while threads decode.
Image.init()


def _silence_libraries() -> None:
    """Silences the decoders' own warnings, which would fill a disk; the image's result already has the error.

    It runs at import: a filter that is set by the first decoding would be lost if the caller was in
    `warnings.catch_warnings` at that moment.
    """
    # Appended as the last filter, so that filters and log handlers of the application still apply.
    warnings.filterwarnings("ignore", module=r"PIL\.", append=True)
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # libtiff prints to stderr. If it is linked into Pillow statically, as on Windows, its handlers cannot be reached.
    with contextlib.suppress(AttributeError, OSError):
        pillow = ctypes.CDLL(Image.core.__file__)  # type: ignore[attr-defined]  # it has no public name
        pillow.TIFFSetErrorHandler(None)
        pillow.TIFFSetWarningHandler(None)


_silence_libraries()

_DISABLED_FORMATS: Final = {
    "EPS",  # runs Ghostscript, an external program, on the bytes
    "BLP",  # textures of a game, with embedded JPEGs that the checks here would not see
    "IPTC",  # opens its content with every plugin, including EPS
    "BUFR",  # Pillow only recognizes this and the following formats, or decodes them on one system only
    "GRIB",
    "HDF5",
    "MPEG",
    "WMF",
}
_FORMATS: Final = tuple(
    # The most frequent formats first; the sort is stable.
    sorted(
        (name for name in Image.ID if name not in _DISABLED_FORMATS),
        key=lambda name: name not in {"JPEG", "PNG", "WEBP"},
    )
)

# Distinguishes a damaged image from other content; Pillow says "cannot identify" in both cases.
_SIGNATURES: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*|....ftypavi[fs]"
    rb"|\0\0\0\x0cjP {2}\r\n\x87\n|\xff\x4f\xff\x51|8BPS\x00\x01",
    re.DOTALL,
)
_PNG_HEADER: Final = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)
_JPEG_2000_HEADER: Final = re.compile(rb"ihdr(.{4})(.{4})|\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL)

_MAX_JPEG_SCANS: Final = 100
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


def to_grayscale(image: UInt8Array) -> UInt8Array:
    """Returns the luma (ITU-R 601) of an RGB image (height, width, 3) in three equal channels."""
    luma = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def probe_size(content: bytes | None) -> tuple[int, int] | None:
    """Reads an image's size from its header, without decoding pixels.

    Args:
        content: The encoded image.

    Returns:
        Width and height in pixels as stored, before any EXIF rotation; None if the header cannot be read.
    """
    if not content:
        return None
    sizes = _icon_image_sizes(content)
    if sizes:
        return max(sizes, key=lambda size: size[0] * size[1])
    try:
        with _open(content) as image:
            return image.size
    except Exception:  # decode_image fails on the same content and reports the error
        return None


def decode_image(content: bytes | None, limits: ImagesConfig) -> UInt8Array:
    """Decodes all formats that Pillow reads: any color space to RGB, transparency to white, animations to one frame.

    Grayscale of more than 8 bits is scaled to 8 bits by the range of its data type, or, if that is wider than 16 bits,
    by the smallest usual range that contains the values. Contrast is not normalized.

    Thread-safe: it changes no global state.

    Args:
        content: The encoded image; None if the table has no content.
        limits: Limits that are checked before any pixel is decoded. Pillow's own limit (twice
            `Image.MAX_IMAGE_PIXELS`) applies as well.

    Returns:
        uint8 (height, width, 3), contiguous, RGB, upright by EXIF.

    Raises:
        ImageError: With the status missing, corrupt, unsupported or too_large, and a message that quotes nothing of
            the content. No content raises anything else.
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
        for width, height in _icon_image_sizes(content):
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
        # quote bytes of the file, so the error names only the class and has no cause.
        msg = f"the image data is damaged or cut short ({type(error).__name__})"
        raise ImageError(ImageStatus.CORRUPT, msg) from None


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except (SyntaxError, ValueError, OSError) as error:
        # Some plugins claim a file by two bytes and then fail to read the header, so check the signature.
        if _SIGNATURES.match(content):
            raise
        raise UnidentifiedImageError from error


def _unidentified(content: bytes) -> ImageError:
    if _SIGNATURES.match(content):
        return ImageError(ImageStatus.CORRUPT, "the image's header is damaged or cut short")
    if content.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return ImageError(ImageStatus.UNSUPPORTED, "PostScript is not decoded: it would run an external program")
    return ImageError(ImageStatus.UNSUPPORTED, "the content is not in an image format that can be decoded")


def _icon_image_sizes(content: bytes) -> list[tuple[int, int]]:
    """Returns the sizes of the images in an icon; Pillow ignores the sizes in the icon's directory."""
    if not content.startswith((b"\0\0\1\0", b"icns")):
        return []
    sizes = [*_PNG_HEADER.findall(content)]
    if content.startswith(b"icns"):
        sizes += [(b or c, a or d) for a, b, c, d in _JPEG_2000_HEADER.findall(content)]
    return [(int.from_bytes(width), int.from_bytes(height)) for width, height in sizes]


def _check_scans(content: bytes) -> None:
    """Rejects a JPEG with too many scans: a file of one megabyte could take an hour to decode.

    Encoders usually write about ten scans, optimizing ones some dozens.
    """
    if not content.startswith(b"\xff\xd8") or content.count(b"\xff\xda") <= _MAX_JPEG_SCANS:
        return
    # Metadata and trailing bytes may contain the marker by chance, so count the scans that a decoder sees.
    scans, position = 0, 2
    while marker := _JPEG_MARKER.search(content, position):
        kind, start = marker.group()[1], marker.end()
        if kind == 0xD9:
            return
        scans += kind == 0xDA
        if scans > _MAX_JPEG_SCANS:
            msg = f"a JPEG with more than {_MAX_JPEG_SCANS} scans is not decoded, because decoding could take hours"
            raise ImageError(ImageStatus.CORRUPT, msg)
        position = start + max(2, int.from_bytes(content[start : start + 2]))


def _check_pixels(width: int, height: int, limits: ImagesConfig) -> None:
    if width * height > limits.max_pixels:
        msg = f"{width} x {height} pixels are more than images.max_pixels = {limits.max_pixels}"
        raise ImageError(ImageStatus.TOO_LARGE, msg)


def _upright_rgb(image: Image.Image, limits: ImagesConfig) -> UInt8Array:
    image.load()
    _check_pixels(image.width, image.height, limits)  # a few formats reveal their size only while decoding
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
    # Read after the pixels: the TIFF plugin rotates while loading and then updates the tag.
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata must not fail the image
        return 1


def _rgb(image: Image.Image) -> UInt8Array:
    if image.mode == "F" or image.mode.startswith("I"):
        return _rgb_from_wide_grayscale(image)
    if not image.has_transparency_data:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    if image.mode == "La":  # premultiplied grayscale, which Pillow cannot convert to RGBA directly
        image = image.convert("LA")
    transparent = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, transparent).convert("RGB"))


def _rgb_from_wide_grayscale(image: Image.Image) -> UInt8Array:
    """Scales 16-bit, 32-bit and floating-point grayscale to 8 bits; negative and non-finite values become black."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in {"PNG", "PPM"}):
        full = 65535.0
    else:
        usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0, 2.0**31 - 1)
        full = next((bound for bound in usual if largest <= bound), largest)
    gray = np.clip(np.rint(values * np.float32(255.0 / full)), 0, 255).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):  # a PNG may declare one shade of gray transparent
        gray[values == key] = 255
    return np.repeat(gray[:, :, None], 3, axis=2)
