"""Runs the commands for hostile images at a small scale, and checks that they detect errors."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from analyze_hostile import check, result_errors
from conftest import Engine
from enrich_hostile import check as check_job
from hostile_encodings import ENCODERS, SECRET
from hostile_images import HostileImage, HostileImages, source_images
from monitoring import capture_stderr
from PIL import Image

from faceattr_udf.config import ImagesConfig
from faceattr_udf.images.decode import decode_image
from faceattr_udf.results import ImageResult, ImageStatus

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

MAX_PIXELS = 1_000_000
"""Small, so that decompression bombs within the limit are decoded quickly."""

BAD = HostileImage("no-image/text", SECRET)
GOOD = HostileImage("good/png", b"\x89PNG", good=True)


@pytest.fixture(scope="module")
def sources(demo_photos: Path) -> dict[str, Image.Image]:
    return source_images(path for path in sorted(demo_photos.rglob("*")) if path.is_file())


def test_seed_and_index_determine_an_item(sources: dict[str, Image.Image]) -> None:
    one, other = (HostileImages(sources, 60, 7, MAX_PIXELS) for _ in range(2))
    assert list(one) == [other[index] for index in reversed(range(60))][::-1]
    assert [item.content for item in HostileImages(sources, 60, 8, MAX_PIXELS)] != [item.content for item in one]


@pytest.mark.parametrize("name", ENCODERS)
def test_undamaged_encodings_are_read(name: str, sources: dict[str, Image.Image]) -> None:
    for seed in range(3):
        content = ENCODERS[name](sources["five_friends"], np.random.default_rng(seed))
        assert decode_image(content, ImagesConfig()).shape[2] == 3


@pytest.mark.slow
def test_every_image_gets_its_own_result(tmp_path: Path) -> None:
    # In a new process, so that stderr is what a worker process would write.
    script, measurements = Path(__file__).with_name("analyze_hostile.py"), tmp_path / "measurements.json"
    command = [sys.executable, script, "--images", "300", "--seed", "1", "--json", measurements]
    finished = subprocess.run(  # noqa: S603
        [*command, "--set", f"images.max_pixels={MAX_PIXELS}"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found = json.loads(measurements.read_text())
    assert found["images"] == sum(found["statuses"].values()) == 300
    assert found["stderr_lines"] == found["wrong"] == 0
    assert {"ok", "no_face", "corrupt", "unsupported", "too_large"} <= set(found["statuses"])


def test_job_writes_a_row_for_every_image(engine: Engine, sources: dict[str, Image.Image], tmp_path: Path) -> None:
    settings = [*engine.settings, f"images.max_pixels={MAX_PIXELS}"]
    images = HostileImages(sources, 100, 2, MAX_PIXELS)
    found, errors = check_job(settings, tmp_path, images, embedded=engine.name == "sail")
    assert errors == []
    assert (found["exit_code"], found["images"], sum(found["statuses"].values())) == (0, 100, 100)
    assert found["faces"] > 0


@pytest.mark.parametrize(
    ("image", "result", "expected"),
    [
        (BAD, ImageResult(ImageStatus.CORRUPT), "message None"),
        (BAD, ImageResult(ImageStatus.CORRUPT, "two\nlines"), "message"),
        (BAD, ImageResult(ImageStatus.CORRUPT, f"it says {SECRET.decode()}"), "quotes"),
        (BAD, ImageResult(ImageStatus.OK, None, None, None), "size of None"),
        (BAD, ImageResult(ImageStatus.NO_FACE, "but", 1, 1), "with the error"),
        (GOOD, ImageResult(ImageStatus.CORRUPT, "damaged"), "undamaged"),
    ],
)
def test_wrong_result_is_detected(image: HostileImage, result: ImageResult, expected: str) -> None:
    (error,) = result_errors(image, result)
    assert expected in error


def test_right_results_have_no_errors() -> None:
    assert not list(result_errors(BAD, ImageResult(ImageStatus.UNSUPPORTED, "not an image")))
    assert not list(result_errors(GOOD, ImageResult(ImageStatus.NO_FACE, None, 4, 4)))


def test_result_that_depends_on_its_batch_is_detected(sources: dict[str, Image.Image]) -> None:
    class BatchDependentAnalyzer:
        """Returns the size of the batch as the width of the image."""

        def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
            return [ImageResult(ImageStatus.NO_FACE, None, len(contents), 1) for _ in contents]

    _, errors = check(BatchDependentAnalyzer(), HostileImages(sources, 40, 0, MAX_PIXELS), 8)  # type: ignore[arg-type]
    assert any("differs from the same image alone by inf" in error for error in errors)


def test_stderr_of_python_and_of_children_is_captured() -> None:
    with capture_stderr() as lines:
        print("from here", file=sys.stderr)
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'from a child')"], check=True)
    assert lines == ["from here", "from a child"]
