"""A short version of the commands beside it, and that their checks see what is wrong."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from analyze_hostile import check, complaints
from conftest import Engine
from enrich_hostile import check as check_job
from hostile_encodings import ENCODERS, SECRET
from hostile_images import HostileImage, HostileImages, pictures
from PIL import Image
from watching import photographs, quiet_stderr

from faceattr_udf.config import ImagesConfig
from faceattr_udf.images.decode import decode_image
from faceattr_udf.results import ImageResult, ImageStatus

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

SMALL = 1_000_000
"""Pixels; bombs within this bound are quick to look at."""

BAD = HostileImage("no-image/text", SECRET)
GOOD = HostileImage("good/png", b"\x89PNG", good=True)


@pytest.fixture(scope="module")
def sources(demo_photos: Path) -> dict[str, Image.Image]:
    return pictures(photographs(demo_photos))


def test_seed_and_index_alone_decide_an_item(sources: dict[str, Image.Image]) -> None:
    one, other = (HostileImages(sources, 60, 7, SMALL) for _ in range(2))
    assert list(one) == [other[index] for index in reversed(range(60))][::-1]
    assert [item.content for item in HostileImages(sources, 60, 8, SMALL)] != [item.content for item in one]


@pytest.mark.parametrize("name", ENCODERS)
def test_every_undamaged_encoding_is_read(name: str, sources: dict[str, Image.Image]) -> None:
    for seed in range(3):
        content = ENCODERS[name](sources["five_friends"], np.random.default_rng(seed))
        assert decode_image(content, ImagesConfig()).shape[2] == 3


@pytest.mark.slow
def test_every_image_gets_an_answer_and_its_own(tmp_path: Path) -> None:
    # A process of its own: what it writes to stderr is then what a worker would write.
    script, figures = Path(__file__).with_name("analyze_hostile.py"), tmp_path / "figures.json"
    command = [sys.executable, script, "--images", "300", "--seed", "1", "--json", figures]
    finished = subprocess.run(  # noqa: S603
        [*command, "--set", f"images.max_pixels={SMALL}"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found = json.loads(figures.read_text())
    assert found["images"] == sum(found["statuses"].values()) == 300
    assert found["stderr_lines"] == found["wrong"] == 0
    assert {"ok", "no_face", "corrupt", "unsupported", "too_large"} <= set(found["statuses"])


def test_the_job_gives_every_image_a_row(engine: Engine, sources: dict[str, Image.Image], tmp_path: Path) -> None:
    settings = [*engine.settings, f"images.max_pixels={SMALL}"]
    images = HostileImages(sources, 100, 2, SMALL)
    figures, wrong = check_job(settings, tmp_path, images, embedded=engine.name == "sail")
    assert wrong == []
    assert (figures["exit_code"], figures["images"], sum(figures["statuses"].values())) == (0, 100, 100)
    assert figures["faces"] > 0


@pytest.mark.parametrize(
    ("image", "result", "told"),
    [
        (BAD, ImageResult(ImageStatus.CORRUPT), "message None"),
        (BAD, ImageResult(ImageStatus.CORRUPT, "two\nlines"), "message"),
        (BAD, ImageResult(ImageStatus.CORRUPT, f"it says {SECRET.decode()}"), "quotes"),
        (BAD, ImageResult(ImageStatus.OK, None, None, None), "size of None"),
        (BAD, ImageResult(ImageStatus.NO_FACE, "but", 1, 1), "with the error"),
        (GOOD, ImageResult(ImageStatus.CORRUPT, "damaged"), "undamaged"),
    ],
)
def test_a_wrong_answer_is_told(image: HostileImage, result: ImageResult, told: str) -> None:
    (complaint,) = complaints(image, result)
    assert told in complaint


def test_right_answers_are_not_told() -> None:
    assert not list(complaints(BAD, ImageResult(ImageStatus.UNSUPPORTED, "not an image")))
    assert not list(complaints(GOOD, ImageResult(ImageStatus.NO_FACE, None, 4, 4)))


def test_an_answer_that_depends_on_the_neighbours_is_told(sources: dict[str, Image.Image]) -> None:
    class Mixes:
        """Tells an image's width by how many it came with."""

        def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
            return [ImageResult(ImageStatus.NO_FACE, None, len(contents), 1) for _ in contents]

    _, wrong = check(Mixes(), HostileImages(sources, 40, 0, SMALL), 8)  # type: ignore[arg-type]
    assert any("differs from the same image alone by inf" in sentence for sentence in wrong)


def test_noise_is_heard_from_python_and_from_below() -> None:
    with quiet_stderr() as noise:
        print("from here", file=sys.stderr)
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'from below')"], check=True)
    assert noise == ["from here", "from below"]
