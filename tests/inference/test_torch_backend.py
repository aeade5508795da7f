"""Compares the torch backend with OpenVINO: on the CPU, where both run, and on a GPU if there is one."""

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
from faceattr_udf.arrays import Float32Array
from faceattr_udf.attributes.preprocess import preprocess
from faceattr_udf.config import Config, DetectorConfig
from faceattr_udf.datasets.labeled_faces import load_faces
from faceattr_udf.detection.mtcnn import STAGES, Detector
from faceattr_udf.detection.prefilter import WEIGHTS_NAME as PREFILTER
from faceattr_udf.errors import EngineError, WeightsError
from faceattr_udf.evaluation.metrics import expected_age
from faceattr_udf.inference.loading import load_network
from faceattr_udf.inference.openvino_backend import OpenVinoModel
from faceattr_udf.inference.torch_backend import TorchModel
from faceattr_udf.inference.torch_loading import load_torch_network, wrap_for_inference
from faceattr_udf.labels import CLASSES
from faceattr_udf.models import MODELS
from faceattr_udf.training.export.record import PACKAGE_WEIGHTS
from faceattr_udf.weights import is_shipped, load_file, load_record

TORCH_ON_CPU = "cpu:0"
"""A torch device that is not "cpu", which selects OpenVINO."""

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DEVICES = [TORCH_ON_CPU, pytest.param("cuda:0", marks=needs_gpu)]
NETWORKS = (*STAGES, PREFILTER, *(spec.weights for spec in MODELS.values() if is_shipped(spec.weights)))


def has_files(name: str, *suffixes: str) -> bool:
    """Returns whether the record of a network names all these files."""
    return all(f"{name}.{suffix}" in load_record(name).sha256 for suffix in suffixes)


def smooth_images(count: int, height: int, width: int) -> np.ndarray:
    """Returns float32 images (n, height, width, 4), values 0-255."""
    random = np.random.default_rng(0)
    coarse = [random.uniform(0, 255, (height // 8, width // 8, 4)) for _ in range(count)]
    return np.stack([cv2.resize(image, (width, height)) for image in coarse]).astype(np.float32)


@pytest.fixture(scope="module")
def faces(demo_faces: pa.Table) -> dict[str, tuple[np.ndarray, ...]]:
    """Model -> real faces as its inputs; few, because CPUs without float16 take seconds for each."""
    crops = {}
    for model in ("default", "separate_grey"):
        record = load_record(MODELS[model].weights)
        loaded = load_faces(demo_faces.slice(0, 18), record.input_size, record.margin, grayscale=record.grayscale).crops
        crops[model] = preprocess(record, loaded)
    return crops


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name in NETWORKS if has_files(name, "xml", "safetensors")])
def test_torch_outputs_have_the_shapes_of_the_graph(name: str, device: str) -> None:
    graph, network = OpenVinoModel(name), TorchModel(name, device=device)
    assert network.record == graph.record
    side = network.record.input_size
    pixels = smooth_images(1 if name == PREFILTER else 2, side or 120, side or 160)
    if network.record.task == "attributes":
        pixels = pixels[..., :3].astype(np.uint8)
    inputs = preprocess(network.record, pixels)
    for ours, theirs in zip(network(*inputs), graph(*inputs), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, np.float32)
    if side:
        assert network.output_shapes == graph.output_shapes


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stage", STAGES)
def test_detectors_compute_in_float32(stage: str, device: str) -> None:
    network = TorchModel(stage, device=device)
    side = network.record.input_size or 200
    pixels = smooth_images(8, side, side)
    for ours, theirs in zip(network(pixels), OpenVinoModel(stage)(pixels), strict=True):
        # TF32 would have a relative error of 1e-3.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_prefilter_agrees_with_its_8_bit_graph(device: str) -> None:
    pixels = smooth_images(1, 240, 320)
    (ours,), (theirs,) = TorchModel(PREFILTER, device=device)(pixels), OpenVinoModel(PREFILTER)(pixels)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98
    confident = np.abs(theirs) > 2.0
    assert ((ours >= 0) == (theirs >= 0))[confident].mean() > 0.99


@pytest.mark.parametrize("device", DEVICES)
def test_torch_detects_the_same_faces(device: str, demo_photos: Path) -> None:
    ours, theirs = Detector(DetectorConfig(), device=device), Detector(DetectorConfig())
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(demo_photos.rglob("*.*"))]
    total = 0
    for actual, expected in zip(ours.detect(images), theirs.detect(images), strict=True):
        total += len(expected)
        assert len(actual) == len(expected)
        np.testing.assert_allclose(actual.boxes, expected.boxes, atol=0.05)
        np.testing.assert_allclose(actual.confidences, expected.confidences, atol=1e-3)
        np.testing.assert_allclose(actual.landmarks, expected.landmarks, atol=0.05)
    assert total == 8


def compare(ours: list[np.ndarray], theirs: list[np.ndarray], model: str) -> dict[str, dict[str, float]]:
    """Attribute -> differences between the probabilities, labels and ages of two backends."""
    differences = {}
    for name, mine, other in zip(load_record(MODELS[model].weights).classes, ours, theirs, strict=True):
        difference = np.abs(mine - other)
        differences[name] = {"max": float(difference.max()), "mean": float(difference.mean())}
        if name == "age":
            differences[name]["years"] = float(np.abs(expected_age(mine) - expected_age(other)).max())
        differences[name]["equal"] = float((mine.argmax(axis=1) == other.argmax(axis=1)).mean())
    return differences


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", ["default", "separate_grey"])
def test_float16_matches_float32(faces: dict[str, tuple[np.ndarray, ...]], model: str, device: str) -> None:
    network, crops = TorchModel(MODELS[model].weights, device=device), faces[model]
    full = wrap_for_inference(
        load_torch_network(network.record, load_file(network.record, "safetensors")), network.record
    )
    with torch.inference_mode():
        exact = [output.numpy() for output in full(*map(torch.from_numpy, crops))]
    for name, difference in compare(network(*crops), exact, model).items():
        assert difference["max"] < 0.02, name
        assert difference["equal"] == 1.0 or name == "age"
        assert difference.get("years", 0.0) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_float16_matches_the_16_bit_graph(faces: dict[str, tuple[np.ndarray, ...]], device: str) -> None:
    name, crops = MODELS["separate_grey"].weights, faces["separate_grey"]
    differences = compare(TorchModel(name, device=device)(*crops), OpenVinoModel(name)(*crops), "separate_grey")
    assert all(difference["max"] < 0.02 for difference in differences.values())


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_float16_agrees_with_the_8_bit_graph(faces: dict[str, tuple[np.ndarray, ...]], device: str) -> None:
    name, crops = MODELS["default"].weights, faces["default"]
    differences = compare(TorchModel(name, device=device)(*crops), OpenVinoModel(name)(*crops), "default")
    for attribute in CLASSES:
        assert differences[attribute]["equal"] > 0.9
        assert differences[attribute]["mean"] < 0.02


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for suffix in ("json", "xml", "bin", "safetensors"):
        shutil.copy(PACKAGE_WEIGHTS / f"mtcnn_rnet.{suffix}", tmp_path)
    return tmp_path


def update_record(folder: Path, **changes: Any) -> None:
    record = load_record("mtcnn_rnet", folder).model_copy(update=changes)
    (folder / "mtcnn_rnet.json").write_text(record.model_dump_json())


def test_weights_without_safetensors_name_the_setting(folder: Path) -> None:
    checksums = load_record("mtcnn_rnet", folder).sha256
    update_record(
        folder, sha256={name: value for name, value in checksums.items() if not name.endswith(".safetensors")}
    )
    with pytest.raises(WeightsError, match=r'only a graph for the CPU; set runtime\.device = "cpu"'):
        TorchModel("mtcnn_rnet", folder, TORCH_ON_CPU)
    assert OpenVinoModel("mtcnn_rnet", folder)


@pytest.mark.parametrize("name", [name for name in NETWORKS if not has_files(name, "safetensors")])
def test_shipped_networks_without_safetensors_are_refused(name: str) -> None:
    with pytest.raises(WeightsError, match=r'set runtime\.device = "cpu"'):
        TorchModel(name, device=TORCH_ON_CPU)


def test_altered_weights_are_refused(folder: Path) -> None:
    path = folder / "mtcnn_rnet.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"mtcnn_rnet\.safetensors has checksum"):
        TorchModel("mtcnn_rnet", folder, TORCH_ON_CPU)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("os.system", "is not in faceattr_udf.networks"),
        ("faceattr_udf.networks.mtcnn.QNet", "cannot be created"),
        ("faceattr_udf.networks.gone.Net", "cannot be created"),
        ("faceattr_udf.networks.mtcnn.ONet", "does not hold the weights of"),
        ("faceattr_udf.networks.towers.TwoTowers", "does not hold the weights of"),
    ],
)
def test_records_can_name_only_networks_of_this_package(folder: Path, architecture: str, reason: str) -> None:
    update_record(folder, architecture=architecture)
    with pytest.raises(WeightsError, match=reason):
        TorchModel("mtcnn_rnet", folder, TORCH_ON_CPU)


def test_invalid_safetensors_are_refused() -> None:
    with pytest.raises(WeightsError, match="does not hold the weights of"):
        load_torch_network(load_record("mtcnn_rnet"), b"not safetensors")


def test_temperatures_come_from_the_record(tmp_path: Path) -> None:
    record = load_record("attributes_default")
    for suffix in ("json", "safetensors"):
        shutil.copy(PACKAGE_WEIGHTS / f"attributes_default.{suffix}", tmp_path)
    crops = np.random.default_rng(0).integers(0, 256, (6, record.input_size, record.input_size, 3), dtype=np.uint8)
    inputs = preprocess(record, crops)

    def predict(temperatures: dict[str, float]) -> list[Float32Array]:
        changed = record.model_copy(update={"temperatures": temperatures})
        (tmp_path / "attributes_default.json").write_text(changed.model_dump_json())
        return TorchModel("attributes_default", tmp_path, TORCH_ON_CPU)(*inputs)

    calibrated, uncalibrated = predict(dict.fromkeys(record.classes, 2.0)), predict({})
    for ours, theirs in zip(calibrated, uncalibrated, strict=True):
        powers = theirs ** (1.0 / 2.0)
        np.testing.assert_allclose(ours, powers / powers.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6)
        assert np.abs(ours - theirs).max() > 1e-4


@pytest.mark.parametrize(("count", "device"), [(0, "cuda:0"), (2, "cuda:2")])
def test_missing_gpu_is_reported(monkeypatch: pytest.MonkeyPatch, count: int, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(EngineError, match=f"sees {count} GPUs, and {device} is not one of them") as caught:
        load_network("mtcnn_rnet", device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_analyzer_reports_a_missing_gpu() -> None:
    with pytest.raises(EngineError, match=r'set runtime\.device = "cpu"'):
        FaceAnalyzer.from_config(Config.load(None, ["runtime.device=cuda"]))


def test_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, TorchModel.__module__)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineError, match=r"cuda:0 needs torch, .*install the extra faceattr_udf\[gpu\]"):
        load_network("mtcnn_rnet", device="cuda:0")
    assert load_network("mtcnn_rnet")


def test_gpu_failures_are_engine_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    network = TorchModel("mtcnn_rnet", device=TORCH_ON_CPU)
    pixels = smooth_images(1, 24, 24)

    def fail(error: Exception) -> None:
        def forward(_: torch.Tensor) -> None:
            raise error

        monkeypatch.setattr(network, "_module", forward)

    fail(RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."))
    with pytest.raises(EngineError, match=r"cpu:0 failed \(CUDA error: an illegal memory access was encountered\)"):
        network(pixels)
    # Out of memory is different: a smaller batch may fit.
    fail(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        network(pixels)


def test_inference_leaves_torch_settings_unchanged() -> None:
    before = torch.backends.cudnn.allow_tf32
    network = TorchModel("mtcnn_rnet", device=TORCH_ON_CPU)
    network(smooth_images(1, 24, 24))
    assert torch.backends.cudnn.allow_tf32 is before
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
