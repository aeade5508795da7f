"""Decodes image files to upright RGB pixels; every failure is an `ImageError` with a status."""

import contextlib
import ctypes
import io
import logging
import re
import struct
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.config import ImagesConfig
from faceattr_udf.errors import ImageError
from faceattr_udf.images.kinds import HEIF, SIGNATURES, names_variant, undecoded_jpeg, undecoded_kind
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

_PNG_HEADER: Final = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)
_JPEG_2000_HEADER: Final = re.compile(rb"ihdr(.{4})(.{4})|\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL)

_NEXT_FORMAT: Final = (SyntaxError, IndexError, TypeError, struct.error, OSError, ValueError, NotImplementedError)
"""Errors after which the next decoder is asked, as `Image.open` does, and errors of plugins that claim a file too
early."""

_JPEG_END: Final = b"\xff\xd9"
_MAX_JPEG_SCANS: Final = 100
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")

_PROFILED_MODES: Final = frozenset({"RGB", "RGBA", "CMYK", "L", "P"})

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


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: uint8 (height, width, 3), contiguous, RGB, upright by EXIF.
        is_cut: Whether the file is cut short, so that the rest of the pixels is gray.
    """

    pixels: UInt8Array
    is_cut: bool = False


def decode_image(content: bytes | None, limits: ImagesConfig) -> UInt8Array:
    """Returns the pixels of `decode`."""
    return decode(content, limits).pixels


def decode(content: bytes | None, options: ImagesConfig) -> Decoded:
    """Decodes all formats that Pillow reads: any color space to RGB, transparency to white, animations to one frame.

    Grayscale of more than 8 bits is scaled to 8 bits by the range of its data type, or, if that is wider than 16 bits,
    by the smallest usual range that contains the values. Contrast is not normalized. HEIC and HEIF are decoded if
    pillow-heif is installed.

    Thread-safe: it changes no global state.

    Args:
        content: The encoded image; None if the table has no content.
        options: Limits that are checked before any pixel is decoded, and what is done with color profiles and with
            JPEG files that are cut short.

    Returns:
        The image.

    Raises:
        ImageError: With the status missing, corrupt, unsupported or too_large, and a message that quotes nothing of
            the content. No content raises anything else.
    """
    if content is None:
        raise ImageError(ImageStatus.MISSING, NO_CONTENT)
    if len(content) == 0:
        raise ImageError(ImageStatus.CORRUPT, "the content is empty (0 bytes)")
    if len(content) > options.max_bytes:
        msg = f"{len(content)} bytes are more than images.max_bytes = {options.max_bytes}"
        raise ImageError(ImageStatus.TOO_LARGE, msg)
    try:
        return Decoded(_decode(content, options))
    except ImageError as error:
        if not (options.cut_jpegs and error.status == ImageStatus.CORRUPT and content.startswith(b"\xff\xd8")):
            raise
        # After an end marker the decoder fills what is missing, and then needs no more data.
        with contextlib.suppress(ImageError):
            return Decoded(_decode(content + _JPEG_END, options), is_cut=True)
        raise


def _decode(content: bytes, options: ImagesConfig) -> UInt8Array:
    try:
        _check_scans(content)
        for width, height in _icon_image_sizes(content):
            _check_pixels(width, height, options)
        with _open(content) as image:
            _check_pixels(image.width, image.height, options)
            return _upright_rgb(image, options)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _beyond_pillow(error, options) from None
    except MemoryError:
        raise ImageError(ImageStatus.TOO_LARGE, "the image does not fit into memory") from None
    except Exception as error:
        raise _undecodable(content, error) from None


def _open(content: bytes) -> Image.Image:
    """Opens an image as `Image.open` does, but without its limit on pixels, which only a global variable changes.

    Raises:
        UnidentifiedImageError: No decoder accepts the content.
        Exception: A decoder accepted the content by its first bytes and failed.
    """
    failure: Exception | None = None
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        accepted = not accept or accept(content[:16])
        if not accepted or isinstance(accepted, str):
            continue
        try:
            return factory(io.BytesIO(content), "")
        except _NEXT_FORMAT as error:
            if accept:
                failure = failure or error
    if HEIF.match(content):
        return _open_heif(content)
    raise failure or UnidentifiedImageError


def _open_heif(content: bytes) -> Image.Image:
    try:
        plugin = import_module("pillow_heif")  # an extra; loads a native library
    except ImportError:
        msg = "HEIC/HEIF is decoded only with the extra faceattr_udf[heif], where images are analyzed"
        raise ImageError(ImageStatus.UNSUPPORTED, msg) from None
    # Not registered as one of Pillow's formats, which are global.
    image: Image.Image = plugin.HeifImageFile(io.BytesIO(content), "")
    return image


def _undecodable(content: bytes, error: Exception) -> ImageError:
    """Returns the error of content that no decoder reads: another kind of file, or a damaged one.

    Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more. Their messages quote
    bytes of the file, so the error names only the class and has no cause.
    """
    if content.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return ImageError(ImageStatus.UNSUPPORTED, "PostScript is not decoded: it would run an external program")
    if kind := undecoded_kind(content) or undecoded_jpeg(content):
        return ImageError(ImageStatus.UNSUPPORTED, f"{kind} is not decoded")
    if not SIGNATURES.match(content) and not HEIF.match(content):
        # Some plugins claim a file by two bytes, so only these signatures tell that it is an image.
        return ImageError(ImageStatus.UNSUPPORTED, "the content is not in an image format that can be decoded")
    if names_variant(error):
        return ImageError(ImageStatus.UNSUPPORTED, "this variant of the image format is not decoded")
    if isinstance(error, UnidentifiedImageError | SyntaxError):
        return ImageError(ImageStatus.CORRUPT, "the image's header is damaged or cut short")
    msg = f"the image data is damaged or cut short ({type(error).__name__})"
    return ImageError(ImageStatus.CORRUPT, msg)


def _beyond_pillow(error: Exception, limits: ImagesConfig) -> ImageError:
    """Returns the error for the few formats whose pixels Pillow itself bounds; its message has two numbers."""
    pixels, bound = (int(number) for number in re.findall(r"\d+", str(error))[:2])
    if pixels > limits.max_pixels:
        return ImageError(
            ImageStatus.TOO_LARGE, f"{pixels} pixels are more than images.max_pixels = {limits.max_pixels}"
        )
    msg = f"{pixels} pixels are more than {bound}, Pillow's own limit for this format, which no key raises"
    return ImageError(ImageStatus.TOO_LARGE, msg)


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


def _upright_rgb(image: Image.Image, options: ImagesConfig) -> UInt8Array:
    image.load()
    _check_pixels(image.width, image.height, options)  # a few formats reveal their size only while decoding
    if image.width == 0 or image.height == 0:
        raise ImageError(ImageStatus.CORRUPT, "the image has no pixels")
    pixels = _rgb(_in_srgb(image) if options.color_profiles else image)
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


def _in_srgb(image: Image.Image) -> Image.Image:
    """Converts the colors of an image with a color profile to sRGB; an unusable profile is ignored."""
    profile: Any = image.info.get("icc_profile")
    if not profile or image.mode not in _PROFILED_MODES:
        return image
    mode = "RGBA" if image.has_transparency_data else "RGB"
    source = image.convert(mode) if image.mode == "P" else image
    try:
        converted = ImageCms.profileToProfile(
            source, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode=mode
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted or image


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
