"""Checks properties of the decoder and the cascade on files and pixels that hypothesis generates.

FUZZ_EXAMPLES=50000 python -m pytest tests/robustness/test_fuzz.py -p no:timeout    # a longer search
"""

import os

import numpy as np
import pytest
from hostile_images import HostileImages, source_images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceattr_udf.config import DetectorConfig, ImagesConfig
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.errors import ImageError
from faceattr_udf.images.decode import decode_image, probe_size
from faceattr_udf.results import ImageStatus

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
LIMITS = ImagesConfig(max_pixels=300_000)
STATUSES = {ImageStatus.MISSING, ImageStatus.CORRUPT, ImageStatus.UNSUPPORTED, ImageStatus.TOO_LARGE}
IMAGES = HostileImages(source_images([]), 10**9, 20261125, LIMITS.max_pixels)

fuzzed = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Replaces byte ranges of a file; negative positions count from its end."""
    for position, length, filler in edits:
        start = position % (len(content) + 1)
        content = content[:start] + filler + content[start + length :]
    return content


EDITS = st.lists(st.tuples(st.integers(-200, 2000), st.integers(0, 40), st.binary(max_size=40)), max_size=4)


@fuzzed
@given(st.integers(0, len(IMAGES) - 1), EDITS)
def test_decoder_returns_bounded_pixels_or_an_image_error(index: int, edits: list[tuple[int, int, bytes]]) -> None:
    content = edited(IMAGES[index].content or b"", edits)
    size = probe_size(content)
    pixels, refused = None, None
    try:
        pixels = decode_image(content, LIMITS)
    except ImageError as error:
        refused = error
    if pixels is None:
        assert refused is not None
        assert refused.status in STATUSES
        assert str(refused).isprintable()
        assert refused.__cause__ is None
        return
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= LIMITS.max_pixels
    # The size in the header decides how many images are decoded together, so pixels must not exceed it.
    assert size is not None
    assert size[0] * size[1] >= pixels.shape[0] * pixels.shape[1]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(DetectorConfig())


SHAPES = st.tuples(st.integers(1, 160), st.integers(1, 160)) | st.sampled_from([(1, 4000), (4000, 1), (13, 3000)])


@settings(fuzzed, max_examples=max(20, EXAMPLES // 10))
@given(
    st.lists(st.tuples(SHAPES, st.sampled_from(["noise", "flat", "steps", "sparse"])), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_detections_are_valid_and_independent_of_the_batch(
    detector: Detector, inputs: list[tuple[tuple[int, int], str]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    images = [_pixels(rng, *shape, pattern) for shape, pattern in inputs]
    for image, found in zip(images, detector.detect(images), strict=True):
        count = len(found)
        assert found.boxes.shape == (count, 4)
        assert found.landmarks.shape == (count, 5, 2)
        assert np.isfinite(found.boxes).all()
        assert np.isfinite(found.landmarks).all()
        assert ((found.confidences > 0.7) & (found.confidences <= 1.0)).all()
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        (alone,) = detector.detect([image])
        assert len(alone) == count
        assert found.boxes == pytest.approx(alone.boxes, abs=1e-2)


def _pixels(rng: np.random.Generator, height: int, width: int, pattern: str) -> np.ndarray:
    match pattern:
        case "noise":
            return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        case "flat":
            return np.full((height, width, 3), rng.integers(0, 256, 3), dtype=np.uint8)
        case "steps":
            grid = rng.integers(0, 256, (-(-height // 9), -(-width // 9), 3), dtype=np.uint8)
            return np.ascontiguousarray(grid.repeat(9, axis=0).repeat(9, axis=1)[:height, :width])
        case _:
            pixels = np.zeros((height, width, 3), dtype=np.uint8)
            pixels[rng.random((height, width)) < 0.02] = 255
            return pixels
