"""Any bytes decode to upright RGB or to an ImageError with a status."""

import io
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_images import QUADRANTS, OddImage, bomb, encode, ico, odd_images, quadrants
from PIL import Image, ImageCms

from faceattr_udf.config import ImagesConfig
from faceattr_udf.errors import ImageError
from faceattr_udf.images import decode as decode_module
from faceattr_udf.images.decode import decode, decode_image, probe_size
from faceattr_udf.results import ImageStatus

CASES = odd_images()
LIMITS = ImagesConfig()
SMALL = ImagesConfig(max_pixels=1_000_000)
JPEG = encode(Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)), "JPEG")
PNG = encode(Image.fromarray(np.random.default_rng(2).integers(0, 256, (24, 40, 4), dtype=np.uint8)), "PNG")
STATUSES = {ImageStatus.MISSING, ImageStatus.CORRUPT, ImageStatus.UNSUPPORTED, ImageStatus.TOO_LARGE}

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore::UserWarning:PIL")


@pytest.mark.parametrize("case", [c for c in CASES if c.status == "ok"], ids=lambda case: case.name)
def test_supported_images_decode_to_upright_rgb(case: OddImage) -> None:
    pixels = decode_image(case.content, LIMITS)
    width, height = case.size
    assert pixels.dtype == np.uint8
    assert pixels.shape == (height, width, 3)
    assert pixels.flags.c_contiguous
    if case.corners is not None:
        rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
        seen = np.array([pixels[row, column] for row in rows for column in columns], dtype=int)
        assert np.abs(seen - np.array(case.corners)).max() <= case.tolerance


@pytest.mark.parametrize("case", [c for c in CASES if c.status != "ok"], ids=lambda case: case.name)
def test_invalid_content_gets_a_status_and_a_sentence(case: OddImage) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(case.content, LIMITS)
    assert caught.value.status == case.status
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert len(message) < 150
    assert caught.value.__cause__ is None  # a chained exception from Pillow may quote the file


@pytest.mark.parametrize("case", [c for c in CASES if c.status == "ok"], ids=lambda case: case.name)
def test_probe_size_reads_the_header(case: OddImage) -> None:
    size = probe_size(case.content)
    assert size is not None
    assert sorted(size) == sorted(case.size)


def test_probe_size_of_an_icon_is_its_largest_image() -> None:
    assert probe_size(ico(bomb(9_000, 9_000), 16)) == (9_000, 9_000)
    assert probe_size(encode(quadrants(64, 64), "ICO", sizes=[(16, 16), (64, 64), (32, 32)])) == (64, 64)


@pytest.mark.parametrize("content", [None, b"", b"<html></html>", JPEG[:30]])
def test_probe_size_without_header_is_none(content: bytes | None) -> None:
    assert probe_size(content) is None


def test_max_pixels_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(quadrants(1001, 1000), "PNG")

    def fail(*_: object) -> None:
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(decode_module, "_upright_rgb", fail)
    with pytest.raises(ImageError, match=r"1001 x 1000 pixels are more than images\.max_pixels = 1000000"):
        decode_image(content, SMALL)


def test_image_exactly_at_the_limit_is_decoded() -> None:
    content = encode(quadrants(1000, 1000), "PNG")
    assert decode_image(content, SMALL).shape == (1000, 1000, 3)
    assert decode_image(content, ImagesConfig(max_bytes=len(content))).shape == (1000, 1000, 3)
    with pytest.raises(ImageError, match=r"more than images\.max_bytes") as caught:
        decode_image(content, ImagesConfig(max_bytes=len(content) - 1))
    assert caught.value.status == "too_large"


def _scans(count: int) -> bytes:
    """Returns a progressive JPEG with its last scan repeated `count` times."""
    content = encode(quadrants(), "JPEG", quality=95, progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + b"\xff\xd9"


def test_jpeg_with_too_many_scans_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        pytest.fail("the image was opened")

    monkeypatch.setattr(decode_module, "_open", fail)
    with pytest.raises(ImageError, match="more than 100 scans") as caught:
        decode_image(_scans(200), LIMITS)
    assert caught.value.status == "corrupt"


def test_limit_of_jpeg_scans_is_100() -> None:
    least = _scans(1).count(b"\xff\xda")
    assert decode_image(_scans(101 - least), LIMITS).shape == (32, 48, 3)
    with pytest.raises(ImageError, match="more than 100 scans"):
        decode_image(_scans(102 - least), LIMITS)


def test_scan_markers_in_metadata_are_not_counted() -> None:
    assert decode_image(_scans(80), LIMITS).shape == (32, 48, 3)
    comment = b"\xff\xfe\x10\x02" + b"\xff\xda" * 0x800
    content = _scans(1)
    for harmless in (content[:2] + comment + content[2:], content + b"\xff\xda\0\2" * 200):
        assert np.array_equal(decode_image(harmless, LIMITS), decode_image(content, LIMITS))


def test_image_inside_an_icon_is_limited() -> None:
    picture = encode(quadrants(1001, 1000), "JPEG2000")
    for part in (picture, picture[picture.index(b"\xff\x4f\xff\x51") :]):
        icon = b"icns" + (16 + len(part)).to_bytes(4) + b"ic07" + (8 + len(part)).to_bytes(4) + part
        assert probe_size(icon) == (1001, 1000)
        with pytest.raises(ImageError, match=r"1001 x 1000 pixels are more than images\.max_pixels"):
            decode_image(icon, SMALL)


@pytest.mark.parametrize("bound", [1_000, None])
def test_limit_of_pillow_does_not_bound_pixels(bound: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    # As with pictures of more than 178,956,970 pixels and Pillow's own value.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert decode_image(encode(quadrants(1001, 1000), "PNG"), LIMITS).shape == (1000, 1001, 3)


def test_limit_of_pillow_inside_a_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(quadrants(100, 50), "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with pytest.raises(ImageError, match="5000 pixels are more than 2000, Pillow's own limit") as caught:
        decode_image(content, LIMITS)
    assert caught.value.status == "too_large"
    with pytest.raises(ImageError, match=r"5000 pixels are more than images\.max_pixels = 4000"):
        decode_image(content, ImagesConfig(max_pixels=4_000))


CUTS = ImagesConfig(cut_jpegs=True)


@pytest.mark.parametrize("progressive", [False, True])
def test_cut_jpeg_is_decoded_as_far_as_it_goes_on_request(progressive: bool) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (256, 64, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), "JPEG", quality=95, progressive=progressive)
    whole = decode(content, CUTS)
    assert not whole.is_cut
    part = content[: len(content) // 2]
    with pytest.raises(ImageError) as caught:
        decode(part, LIMITS)
    assert caught.value.status == "corrupt"
    cut = decode(part, CUTS)
    assert cut.is_cut
    assert cut.pixels.shape == noise.shape
    if not progressive:
        assert np.array_equal(cut.pixels[:96], whole.pixels[:96])


@pytest.mark.parametrize("content", [JPEG[:20], JPEG[:2], JPEG[:200], PNG[:400], b"no image"])
def test_what_has_no_pixels_stays_an_error(content: bytes) -> None:
    for options in (LIMITS, CUTS):
        with pytest.raises(ImageError) as caught:
            decode(content, options)
        assert caught.value.status in {"corrupt", "unsupported"}


def test_limits_hold_for_cut_jpegs() -> None:
    content = encode(quadrants(1001, 1000), "JPEG")[:-200]
    with pytest.raises(ImageError, match=r"1001 x 1000 pixels are more than images\.max_pixels"):
        decode(content, ImagesConfig(cut_jpegs=True, max_pixels=1_000_000))


def _profile(kind: Literal["LAB", "XYZ", "sRGB"]) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


def test_color_profiles_are_applied_on_request() -> None:
    # A profile that swaps red and blue: sRGB with its two colorants exchanged.
    srgb = _profile("sRGB")
    swapped = srgb.replace(b"rXYZ", b"tmp_").replace(b"bXYZ", b"rXYZ").replace(b"tmp_", b"bXYZ")
    apply = ImagesConfig(color_profiles=True)
    for mode in ("RGB", "RGBA", "P"):
        image = quadrants().convert(mode)
        plain = decode_image(encode(image, "PNG"), LIMITS).astype(int)
        assert np.array_equal(decode_image(encode(image, "PNG", icc_profile=swapped), LIMITS), plain)
        assert np.array_equal(decode_image(encode(image, "PNG"), apply), plain)
        assert np.abs(decode_image(encode(image, "PNG", icc_profile=srgb), apply) - plain).max() <= 2
        turned = decode_image(encode(image, "PNG", icc_profile=swapped), apply)
        assert np.abs(turned[..., ::-1] - plain).max() <= 8, mode


@pytest.mark.parametrize(
    "profile",
    [b"", b"no profile", _profile("sRGB")[:200], _profile("LAB")],
    ids=["empty", "none", "cut", "lab"],  # the profiles hold the time of their making
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_unusable_color_profile_is_ignored(profile: bytes, mode: str) -> None:
    image = quadrants().convert(mode)
    pixels = decode_image(encode(image, "PNG", icc_profile=profile), ImagesConfig(color_profiles=True))
    assert np.array_equal(pixels, decode_image(encode(image, "PNG"), LIMITS))


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic"


def test_heic_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC/HEIF is decoded only with the extra faceattr_udf\[heif\]") as caught:
        decode_image(HEIC, LIMITS)
    assert caught.value.status == "unsupported"
    assert probe_size(HEIC) is None


def test_heic_with_the_extra_is_decoded() -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(quadrants(96, 64)).save(buffer, quality=95)
    content = buffer.getvalue()
    assert probe_size(content) == (96, 64)
    pixels = decode_image(content, LIMITS)
    assert pixels.shape == (64, 96, 3)
    seen = pixels[[16, 16, 48, 48], [24, 72, 24, 72]].astype(int)
    assert np.abs(seen - np.array(QUADRANTS)).max() <= 12
    with pytest.raises(ImageError, match=r"96 x 64 pixels are more than images\.max_pixels"):
        decode_image(content, ImagesConfig(max_pixels=6_000))
    with pytest.raises(ImageError, match=r"more than images\.max_bytes"):
        decode_image(content, ImagesConfig(max_bytes=100))
    for cut in (content[:100], content[: len(content) // 2]):
        with pytest.raises(ImageError) as caught:
            decode_image(cut, LIMITS)
        assert caught.value.status == "corrupt"
    assert "HEIF" not in Image.OPEN


def test_postscript_runs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        pytest.fail("a program was started")

    monkeypatch.setattr(subprocess, "Popen", fail)
    eps = encode(quadrants(), "EPS")
    with pytest.raises(ImageError, match="PostScript") as caught:
        decode_image(eps, LIMITS)
    assert caught.value.status == "unsupported"
    # The same content inside an IPTC record, which Pillow would open with every plugin.
    record = b"\x1c\x03\x3c\x00\x02\x00\x01\x1c\x03\x14\x00\x02\x00\x10\x1c\x03\x1e\x00\x02\x00\x10\x1c\x08\x0a"
    with pytest.raises(ImageError):
        decode_image(record + len(eps).to_bytes(2) + eps, LIMITS)


def test_threads_decode_the_same_pixels() -> None:
    contents = [case.content for case in CASES if case.status == "ok"]
    alone = [decode_image(content, LIMITS) for content in contents]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = list(pool.map(lambda content: decode_image(content, LIMITS), contents))
            assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_decoding_does_not_change_pillow_globals() -> None:
    before = (Image.MAX_IMAGE_PIXELS, list(Image.ID), dict(Image.OPEN))
    for case in CASES:
        _array_or_image_error(case.content)
    assert before == (Image.MAX_IMAGE_PIXELS, list(Image.ID), dict(Image.OPEN))


def _array_or_image_error(content: bytes | None) -> None:
    pixels, failure = None, None
    try:
        pixels = decode_image(content, SMALL)
    except ImageError as error:
        failure = error
    if pixels is None:
        assert failure is not None
        assert failure.status in STATUSES
        assert str(failure)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert 0 < pixels.shape[0] * pixels.shape[1] <= SMALL.max_pixels
    size = probe_size(content)
    assert size is None or len(size) == 2


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_random_bytes_never_crash(content: bytes) -> None:
    _array_or_image_error(content)


SIGNATURES = sorted({case.content[:16] for case in CASES if case.content})


@given(st.sampled_from(SIGNATURES), st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes_after_a_signature_never_crash(signature: bytes, rest: bytes) -> None:
    _array_or_image_error(signature + rest)


@given(
    st.sampled_from([JPEG, PNG, *(case.content for case in CASES if case.status == "ok" and case.content)]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    st.integers(0, 10**6),
)
@settings(max_examples=600)
def test_mutated_images_never_crash(valid: bytes, changes: list[tuple[int, int]], length: int) -> None:
    content = bytearray(valid)
    for position, value in changes:
        content[position % len(content)] = value
    _array_or_image_error(bytes(content[: length % (2 * len(content)) + 1]))


def test_error_message_quotes_nothing_of_the_file() -> None:
    secret = b"CUSTOMER-NAME"
    content = bytearray(PNG)
    at = content.index(b"IDAT")
    content[at : at + len(secret)] = secret
    with pytest.raises(ImageError) as caught:
        decode_image(bytes(content), LIMITS)
    assert "CUSTOMER" not in str(caught.value)


@pytest.mark.parametrize("kind", [OSError, ValueError, SyntaxError, struct.error, RuntimeError])
def test_error_message_quotes_nothing_of_the_decoder(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    # Which decoder quotes which bytes changes with every release of Pillow.
    def fail(_: bytes) -> Image.Image:
        raise kind("invalid token CUSTOMER-NAME")

    monkeypatch.setattr(decode_module, "_open", fail)
    with pytest.raises(ImageError) as caught:
        decode_image(JPEG, LIMITS)
    assert "CUSTOMER" not in str(caught.value)
    assert caught.value.__cause__ is None
