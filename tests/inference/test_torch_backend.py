"""The GPU runtime against the CPU's: on the CPU here, where both can be had, and on a GPU where there is one."""

import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.attributes.predictor import MODELS
from faceattr_udf.attributes.preprocess import views
from faceattr_udf.config import Config, DetectorConfig
from faceattr_udf.datasets.labelled_faces import load_faces
from faceattr_udf.detection.mtcnn import STAGES, Detector
from faceattr_udf.detection.prefilter import NAME as SCREEN
from faceattr_udf.errors import EngineError, WeightsError
from faceattr_udf.evaluation.metrics import expected_age
from faceattr_udf.inference.loading import load_network
from faceattr_udf.inference.openvino_backend import Graph
from faceattr_udf.inference.torch_backend import TorchGraph
from faceattr_udf.inference.torch_loading import build, serve
from faceattr_udf.training.export.__main__ import PACKAGE_WEIGHTS
from faceattr_udf.weights import is_shipped, load_file, load_record

TORCH_ON_CPU = "cpu:0"
"""Not what the CPU runtime is called, and still a device of torch."""

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, which this machine lacks")
DEVICES = [TORCH_ON_CPU, pytest.param("cuda:0", marks=needs_gpu)]
NETWORKS = (*STAGES, SCREEN, *(name for name, _ in MODELS.values() if is_shipped(name)))


def ships(name: str, *suffixes: str) -> bool:
    """Whether a network comes with all these files."""
    return all(f"{name}.{suffix}" in load_record(name).sha256 for suffix in suffixes)


def levels(count: int, height: int, width: int) -> np.ndarray:
    """Smooth float32 pictures (n, height, width, 4), values 0-255."""
    random = np.random.default_rng(0)
    coarse = [random.uniform(0, 255, (height // 8, width // 8, 4)) for _ in range(count)]
    return np.stack([cv2.resize(picture, (width, height)) for picture in coarse]).astype(np.float32)


@pytest.fixture(scope="module")
def faces(demo_faces: pa.Table) -> dict[str, tuple[np.ndarray, ...]]:
    """Model -> real faces as it sees them; few, because processors without half precision take seconds for each."""
    crops = {}
    for model in ("default", "separate_grey"):
        record = load_record(MODELS[model][0])
        cut = load_faces(demo_faces.slice(0, 18), record.input_size, record.margin, grayscale=record.grayscale).crops
        crops[model] = views(record, cut)
    return crops


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name in NETWORKS if ships(name, "xml", "safetensors")])
def test_every_shipped_network_has_the_outputs_of_its_graph(name: str, device: str) -> None:
    graph, network = Graph(name), TorchGraph(name, device=device)
    assert network.record == graph.record
    side = network.record.input_size
    pixels = levels(1 if name == SCREEN else 2, side or 120, side or 160)
    if network.record.task == "attributes":
        pixels = pixels[..., :3].astype(np.uint8)
    shown = views(network.record, pixels)
    for ours, theirs in zip(network(*shown), graph(*shown), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, np.float32)
    if side:
        assert network.output_shapes == graph.output_shapes


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stage", STAGES)
def test_the_cascade_computes_in_float32(stage: str, device: str) -> None:
    network = TorchGraph(stage, device=device)
    side = network.record.input_size or 200
    pixels = levels(8, side, side)
    for ours, theirs in zip(network(pixels), Graph(stage)(pixels), strict=True):
        # TF32 would round every factor to a thousandth.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_the_screen_says_what_its_graph_of_8_bits_says(device: str) -> None:
    pixels = levels(1, 240, 320)
    (ours,), (theirs,) = TorchGraph(SCREEN, device=device)(pixels), Graph(SCREEN)(pixels)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98
    sure = np.abs(theirs) > 2.0
    assert ((ours >= 0) == (theirs >= 0))[sure].mean() > 0.99


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_faces_are_found(device: str, demo_photos: Path) -> None:
    ours, theirs = Detector(DetectorConfig(), device=device), Detector(DetectorConfig())
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(demo_photos.rglob("*.*"))]
    total = 0
    for mine, other in zip(ours.detect(images), theirs.detect(images), strict=True):
        total += len(other)
        assert len(mine) == len(other)
        np.testing.assert_allclose(mine.boxes, other.boxes, atol=0.05)
        np.testing.assert_allclose(mine.confidences, other.confidences, atol=1e-3)
        np.testing.assert_allclose(mine.landmarks, other.landmarks, atol=0.05)
    assert total == 8


def compare(ours: list[np.ndarray], theirs: list[np.ndarray], model: str) -> dict[str, dict[str, float]]:
    """Attribute -> how far probabilities, labels and ages of two runtimes are apart."""
    found = {}
    for name, mine, other in zip(load_record(MODELS[model][0]).classes, ours, theirs, strict=True):
        difference = np.abs(mine - other)
        found[name] = {"most": float(difference.max()), "mean": float(difference.mean())}
        if name == "age":
            found[name]["years"] = float(np.abs(expected_age(mine) - expected_age(other)).max())
        found[name]["equal"] = float((mine.argmax(axis=1) == other.argmax(axis=1)).mean())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", ["default", "separate_grey"])
def test_half_precision_is_nearly_float32(faces: dict[str, tuple[np.ndarray, ...]], model: str, device: str) -> None:
    network, crops = TorchGraph(MODELS[model][0], device=device), faces[model]
    full = serve(build(network.record, load_file(network.record, "safetensors")), network.record)
    with torch.inference_mode():
        exact = [output.numpy() for output in full(*map(torch.from_numpy, crops))]
    for name, found in compare(network(*crops), exact, model).items():
        assert found["most"] < 0.02, name
        assert found["equal"] == 1.0 or name == "age"
        assert found.get("years", 0.0) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_is_nearly_the_graph_of_16_bits(faces: dict[str, tuple[np.ndarray, ...]], device: str) -> None:
    name, crops = MODELS["separate_grey"][0], faces["separate_grey"]
    found = compare(TorchGraph(name, device=device)(*crops), Graph(name)(*crops), "separate_grey")
    assert all(figures["most"] < 0.02 for figures in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_decides_as_the_graph_of_8_bits(faces: dict[str, tuple[np.ndarray, ...]], device: str) -> None:
    name, crops = MODELS["default"][0], faces["default"]
    found = compare(TorchGraph(name, device=device)(*crops), Graph(name)(*crops), "default")
    for attribute in CLASSES:
        assert found[attribute]["equal"] > 0.9
        assert found[attribute]["mean"] < 0.02


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for suffix in ("json", "xml", "bin", "safetensors"):
        shutil.copy(PACKAGE_WEIGHTS / f"mtcnn_rnet.{suffix}", tmp_path)
    return tmp_path


def rewrite(folder: Path, **changes: Any) -> None:
    record = load_record("mtcnn_rnet", folder).model_copy(update=changes)
    (folder / "mtcnn_rnet.json").write_text(record.model_dump_json())


def test_weights_that_are_only_a_graph_name_the_setting(folder: Path) -> None:
    sums = load_record("mtcnn_rnet", folder).sha256
    rewrite(folder, sha256={name: value for name, value in sums.items() if not name.endswith(".safetensors")})
    with pytest.raises(WeightsError, match=r'only as a graph for the CPU; set runtime\.device = "cpu"'):
        TorchGraph("mtcnn_rnet", folder, TORCH_ON_CPU)
    assert Graph("mtcnn_rnet", folder)


@pytest.mark.parametrize("name", [name for name in NETWORKS if not ships(name, "safetensors")])
def test_a_network_that_ships_as_a_graph_alone_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match=r'set runtime\.device = "cpu"'):
        TorchGraph(name, device=TORCH_ON_CPU)


def test_altered_weights_are_refused(folder: Path) -> None:
    path = folder / "mtcnn_rnet.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"mtcnn_rnet\.safetensors has checksum"):
        TorchGraph("mtcnn_rnet", folder, TORCH_ON_CPU)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("os.system", "is no network of"),
        ("faceattr_udf.networks.mtcnn.QNet", "cannot be made here"),
        ("faceattr_udf.networks.gone.Net", "cannot be made here"),
        ("faceattr_udf.networks.mtcnn.ONet", "do not belong to"),
        ("faceattr_udf.networks.towers.TwoTowers", "do not belong to"),
    ],
)
def test_a_record_chooses_among_our_own_networks_only(folder: Path, architecture: str, reason: str) -> None:
    rewrite(folder, architecture=architecture)
    with pytest.raises(WeightsError, match=reason):
        TorchGraph("mtcnn_rnet", folder, TORCH_ON_CPU)


def test_what_is_no_safetensors_is_told() -> None:
    with pytest.raises(WeightsError, match="do not belong to"):
        build(load_record("mtcnn_rnet"), b"nothing of the kind")


def test_temperatures_are_those_of_the_record(tmp_path: Path) -> None:
    record = load_record("attributes_default")
    for suffix in ("json", "safetensors"):
        shutil.copy(PACKAGE_WEIGHTS / f"attributes_default.{suffix}", tmp_path)
    crops = np.random.default_rng(0).integers(0, 256, (6, record.input_size, record.input_size, 3), dtype=np.uint8)
    shown = views(record, crops)
    calibrated = TorchGraph("attributes_default", tmp_path, TORCH_ON_CPU)(*shown)
    plain = record.model_copy(update={"temperatures": {}})
    (tmp_path / "attributes_default.json").write_text(plain.model_dump_json())
    uncalibrated = TorchGraph("attributes_default", tmp_path, TORCH_ON_CPU)(*shown)
    for name, ours, theirs in zip(record.classes, calibrated, uncalibrated, strict=True):
        powers = theirs ** (1.0 / record.temperatures[name])
        np.testing.assert_allclose(ours, powers / powers.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6)
        assert np.abs(ours - theirs).max() > 1e-4


@pytest.mark.parametrize(("count", "device"), [(0, "cuda:0"), (2, "cuda:2")])
def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, count: int, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(EngineError, match=f"sees {count} GPUs here, and {device} is not among them") as caught:
        load_network("mtcnn_rnet", device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_an_analyzer_asked_for_a_gpu_says_that_there_is_none() -> None:
    with pytest.raises(EngineError, match=r'set runtime\.device = "cpu"'):
        FaceAnalyzer.from_config(Config.load(None, ["runtime.device=cuda"]))


def test_an_environment_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, TorchGraph.__module__)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineError, match=r"cuda:0 needs torch, .*install the extra faceattr_udf\[gpu\]"):
        load_network("mtcnn_rnet", device="cuda:0")
    assert load_network("mtcnn_rnet")


def test_a_gpu_that_fails_is_no_image_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    network = TorchGraph("mtcnn_rnet", device=TORCH_ON_CPU)
    pixels = levels(1, 24, 24)

    def fail(error: Exception) -> None:
        def forward(_: torch.Tensor) -> None:
            raise error

        monkeypatch.setattr(network, "_served", forward)

    fail(RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."))
    with pytest.raises(EngineError, match=r"cpu:0 failed \(CUDA error: an illegal memory access was encountered\)"):
        network(pixels)
    # Too large is another matter: fewer images may fit.
    fail(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        network(pixels)


def test_the_network_leaves_the_process_as_it_was() -> None:
    before = torch.backends.cudnn.allow_tf32
    network = TorchGraph("mtcnn_rnet", device=TORCH_ON_CPU)
    network(levels(1, 24, 24))
    assert torch.backends.cudnn.allow_tf32 is before
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
