"""Training of the screen: its pictures, its targets and a few steps."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from shared_data import SHARED, needs_shared, photographs

from faceattr_udf.benchmarks.baselines import agreement_of_all
from faceattr_udf.config import DetectorConfig
from faceattr_udf.datasets.labelled_faces import read_table
from faceattr_udf.detection import proposals
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.detection.prefilter import BLOCK, NAME, block_grid, block_of, tiles_of
from faceattr_udf.inference.openvino_backend import Graph
from faceattr_udf.inference.torch_loading import build
from faceattr_udf.networks.screen import ScreenNet
from faceattr_udf.training.prefilter.__main__ import export
from faceattr_udf.training.prefilter.canvases import Canvases
from faceattr_udf.training.prefilter.fit import fit, lowest, passing
from faceattr_udf.training.prefilter.targets import Targets, Teacher
from faceattr_udf.weights import load_file, load_record


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _table() -> pa.Table:
    buffer = io.BytesIO()
    Image.fromarray(_noise(40, 50)).save(buffer, "PNG")
    return pa.table({"image": [buffer.getvalue()] * 2, "source": ["utkface", "aaf"]})


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(Detector(DetectorConfig(screen=False), threads=2))


def test_equal_seeds_draw_equal_pictures() -> None:
    one, two = (Canvases(_table(), [_noise(300, 400)], seed=3) for _ in range(2))
    for _ in range(6):
        picture = one.draw()
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        assert np.array_equal(picture, two.draw())


@pytest.mark.parametrize("cell", range(12))
def test_a_block_has_its_cells_in_its_middle(cell: int) -> None:
    block = block_of(cell)
    assert block * BLOCK - BLOCK <= cell < block * BLOCK


def test_a_picture_without_a_face_has_levels_and_no_targets(teacher: Teacher) -> None:
    targets = teacher.targets(np.full((60, 80, 3), 127, np.uint8))
    assert targets.faces == []
    assert targets.halves[0].shape == (19, 25, 3)


@pytest.mark.slow
@needs_shared
def test_the_blocks_of_the_targets_alone_find_the_faces(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "is_screened", lambda *_: True)
    monkeypatch.setattr(proposals, "_MOST_TILES", 1.0)
    detector, plain = (
        Detector(DetectorConfig(screen=True), threads=2),
        Detector(DetectorConfig(screen=False), threads=2),
    )
    screen = detector.proposer._screen
    assert screen is not None
    ours, theirs = [], []
    for path in photographs()[9:17]:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
        targets = teacher.targets(picture)
        chosen = [np.zeros(block_grid(*half.shape[:2]), dtype=bool) for half in targets.halves]
        for face in targets.faces:
            for level, row, column in face:
                chosen[level][row, column] = True
        assert chosen[0].mean() < 0.3
        answers = iter(chosen)  # the detector asks level by level
        monkeypatch.setattr(screen, "tiles", lambda *_, answers=answers: tiles_of(next(answers)))
        (found,), (expected,) = detector.detect([picture]), plain.detect([picture])
        ours.append(found.boxes)
        theirs.append(expected.boxes)
    pairs, total = agreement_of_all(ours, theirs)
    assert total > 30
    assert pairs >= 0.95 * total


@pytest.mark.slow
@needs_shared
def test_a_few_steps_make_the_loss_fall(teacher: Teacher) -> None:
    with Image.open(SHARED / "photos" / "2007_007763.jpg") as image:
        photograph = np.asarray(image.convert("RGB"))
    canvases = Canvases(read_table(SHARED / "faces-val.parquet").slice(0, 50), [photograph], seed=1)
    pictures = [teacher.targets(canvases.draw()) for _ in range(4)]
    losses: list[float] = []
    torch.set_num_threads(2)
    network = fit(pictures, pictures, 24, lambda figures: losses.append(figures["loss"]))
    start = fit(pictures, pictures, 1, lambda figures: losses.append(figures["loss"]))
    assert losses[0] < 0.8 * losses[1]
    assert not network.training
    assert start is not network


def test_a_threshold_for_all_faces_is_the_weakest_of_their_best_blocks() -> None:
    network = ScreenNet().eval()
    half = _noise(330, 330)  # a level of this size is screened
    face = np.array([[0, 10, 10], [0, 40, 40]])
    picture = Targets([half], [face])
    with torch.inference_mode():
        pixels = torch.from_numpy(np.concatenate([half, half[..., :1]], axis=2))[None]
        scores = network(pixels)[0].numpy()
    assert lowest(network, [picture], [1.0]) == [float(max(scores[10, 10], scores[40, 40]))]
    assert 0.0 < passing(network, [picture])["0.9"] <= 100.0


def test_faces_in_a_level_that_is_not_screened_need_no_block() -> None:
    picture = Targets([_noise(330, 330), _noise(60, 60)], [np.array([[0, 1, 1], [1, 5, 5]])])
    assert lowest(ScreenNet().eval(), [picture], [1.0]) == [np.inf]


@pytest.mark.slow
@needs_shared
def test_what_is_exported_says_what_the_network_says(teacher: Teacher, tmp_path: Path) -> None:
    canvases = Canvases(read_table(SHARED / "faces-val.parquet"), [_noise(300, 400)], seed=0)
    watched = [teacher.targets(canvases.draw()) for _ in range(6)]
    network = build(load_record(NAME), load_file(load_record(NAME), "safetensors"))
    assert isinstance(network, ScreenNet)
    assert export(network, watched, 0.99, tmp_path, {"settings": {}}).training["settings"] == {}
    half = watched[0].halves[0].astype(np.float32)
    pixels = np.concatenate([half, half[..., :1]], axis=2)[None]
    with torch.inference_mode():
        expected = build(load_record(NAME, tmp_path), (tmp_path / f"{NAME}.safetensors").read_bytes())(
            torch.from_numpy(pixels)
        )
    (logits,) = Graph(NAME, tmp_path)(pixels)
    assert np.corrcoef(logits.ravel(), expected.numpy().ravel())[0, 1] > 0.99
