import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from shared_data import SHARED, needs_shared, shared_photos

from faceattr_udf.config import DetectorConfig
from faceattr_udf.datasets.labeled_faces import read_table
from faceattr_udf.detection import proposals
from faceattr_udf.detection.matching import count_matches
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.detection.prefilter import BLOCK, WEIGHTS_NAME, block_grid, block_index, tiles_from_blocks
from faceattr_udf.inference.openvino_backend import OpenVinoModel
from faceattr_udf.inference.torch_loading import load_torch_network
from faceattr_udf.networks.screen import ScreenNet
from faceattr_udf.training.prefilter.fit import fit, percent_passing, recall_thresholds
from faceattr_udf.training.prefilter.run import export_prefilter
from faceattr_udf.training.prefilter.scenes import SyntheticScenes
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
    return Teacher(Detector(DetectorConfig(prefilter=False), threads=2))


def test_equal_seeds_draw_equal_scenes() -> None:
    one, two = (SyntheticScenes(_table(), [_noise(300, 400)], seed=3) for _ in range(2))
    for _ in range(6):
        scene = one.draw()
        assert scene.dtype == np.uint8
        assert scene.flags.c_contiguous
        assert np.array_equal(scene, two.draw())


@pytest.mark.parametrize("cell", range(12))
def test_block_center_covers_its_cells(cell: int) -> None:
    block = block_index(cell)
    assert block * BLOCK - BLOCK <= cell < block * BLOCK


def test_scene_without_faces_has_levels_but_no_targets(teacher: Teacher) -> None:
    targets = teacher.targets(np.full((60, 80, 3), 127, np.uint8))
    assert targets.faces == []
    assert targets.halves[0].shape == (19, 25, 3)


@pytest.mark.slow
@needs_shared
def test_target_blocks_alone_find_the_faces(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "should_prefilter", lambda *_: True)
    monkeypatch.setattr(proposals, "_MAX_TILE_FRACTION", 1.0)
    detector, plain = (
        Detector(DetectorConfig(prefilter=True), threads=2),
        Detector(DetectorConfig(prefilter=False), threads=2),
    )
    prefilter = detector.proposer._prefilter
    assert prefilter is not None
    ours, theirs = [], []
    for path in shared_photos()[9:17]:
        with Image.open(path) as image:
            scene = np.asarray(image.convert("RGB"))
        targets = teacher.targets(scene)
        chosen = [np.zeros(block_grid(*half.shape[:2]), dtype=bool) for half in targets.halves]
        for face in targets.faces:
            for level, row, column in face:
                chosen[level][row, column] = True
        assert chosen[0].mean() < 0.3
        answers = iter(chosen)  # the detector asks level by level
        monkeypatch.setattr(prefilter, "tiles", lambda *_, answers=answers: tiles_from_blocks(next(answers)))
        (found,), (expected,) = detector.detect([scene]), plain.detect([scene])
        ours.append(found.boxes)
        theirs.append(expected.boxes)
    pairs, total = count_matches(ours, theirs)
    assert total > 30
    assert pairs >= 0.95 * total


@pytest.mark.slow
@needs_shared
def test_loss_falls_within_a_few_steps(teacher: Teacher) -> None:
    with Image.open(SHARED / "photos" / "2007_007763.jpg") as image:
        photograph = np.asarray(image.convert("RGB"))
    scenes = SyntheticScenes(read_table(SHARED / "faces-val.parquet").slice(0, 50), [photograph], seed=1)
    targets = [teacher.targets(scenes.draw()) for _ in range(4)]
    losses: list[float] = []
    torch.set_num_threads(2)
    network = fit(targets, targets, 24, lambda metrics: losses.append(metrics["loss"]))
    start = fit(targets, targets, 1, lambda metrics: losses.append(metrics["loss"]))
    assert losses[0] < 0.8 * losses[1]
    assert not network.training
    assert start is not network


def test_recall_one_threshold_is_lowest_best_block() -> None:
    network = ScreenNet().eval()
    half = _noise(330, 330)  # a level of this size is prefiltered
    face = np.array([[0, 10, 10], [0, 40, 40]])
    scene = Targets([half], [face])
    with torch.inference_mode():
        pixels = torch.from_numpy(np.concatenate([half, half[..., :1]], axis=2))[None]
        scores = network(pixels)[0].numpy()
    assert recall_thresholds(network, [scene], [1.0]) == [float(max(scores[10, 10], scores[40, 40]))]
    assert 0.0 < percent_passing(network, [scene])["0.9"] <= 100.0


def test_faces_in_small_levels_need_no_block() -> None:
    scene = Targets([_noise(330, 330), _noise(60, 60)], [np.array([[0, 1, 1], [1, 5, 5]])])
    assert recall_thresholds(ScreenNet().eval(), [scene], [1.0]) == [np.inf]


@pytest.mark.slow
@needs_shared
def test_exported_graph_agrees_with_the_network(teacher: Teacher, tmp_path: Path) -> None:
    scenes = SyntheticScenes(read_table(SHARED / "faces-val.parquet"), [_noise(300, 400)], seed=0)
    validation = [teacher.targets(scenes.draw()) for _ in range(6)]
    network = load_torch_network(load_record(WEIGHTS_NAME), load_file(load_record(WEIGHTS_NAME), "safetensors"))
    assert isinstance(network, ScreenNet)
    assert export_prefilter(network, validation, 0.99, tmp_path, {"settings": {}}).training["settings"] == {}
    half = validation[0].halves[0].astype(np.float32)
    pixels = np.concatenate([half, half[..., :1]], axis=2)[None]
    with torch.inference_mode():
        expected = load_torch_network(
            load_record(WEIGHTS_NAME, tmp_path), (tmp_path / f"{WEIGHTS_NAME}.safetensors").read_bytes()
        )(torch.from_numpy(pixels))
    (logits,) = OpenVinoModel(WEIGHTS_NAME, tmp_path)(pixels)
    assert np.corrcoef(logits.ravel(), expected.numpy().ravel())[0, 1] > 0.99
