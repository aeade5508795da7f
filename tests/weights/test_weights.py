"""Tests of weights, records and the shipped graphs."""

import hashlib
import json
import shutil
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from shared_data import SHARED, needs_shared

from faceattr_udf.attributes import predictor
from faceattr_udf.attributes.predictor import load_predictor, model_record
from faceattr_udf.attributes.preprocess import preprocess
from faceattr_udf.attributes.vocabulary import ClassConverter
from faceattr_udf.config import AttributesConfig
from faceattr_udf.datasets.labeled_faces import load_faces, read_table
from faceattr_udf.detection.mtcnn import STAGES
from faceattr_udf.detection.prefilter import WEIGHTS_NAME as PREFILTER
from faceattr_udf.errors import WeightsError
from faceattr_udf.evaluation.metrics import expected_age
from faceattr_udf.inference.openvino_backend import OpenVinoModel, load_openvino
from faceattr_udf.inference.torch_loading import load_torch_network, wrap_for_inference
from faceattr_udf.labels import CLASSES
from faceattr_udf.models import MODELS
from faceattr_udf.training.export import cli as export
from faceattr_udf.training.export.record import PACKAGE_WEIGHTS, write_record
from faceattr_udf.weights import WeightsRecord, is_shipped, load_file, load_record

SHIPPED = (*STAGES, PREFILTER, *(spec.weights for spec in MODELS.values() if is_shipped(spec.weights)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for suffix in ("json", "xml", "bin", "safetensors"):
        shutil.copy(PACKAGE_WEIGHTS / f"attributes_default.{suffix}", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_have_their_recorded_checksums(name: str) -> None:
    record = load_record(name)
    assert record.sha256
    for file, checksum in record.sha256.items():
        content = (resources.files("faceattr_udf.weights") / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == checksum
    assert record.licence
    assert record.training


def test_altered_file_is_refused(folder: Path) -> None:
    weights = folder / "attributes_default.bin"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsError, match=r"attributes_default\.bin has checksum"):
        load_predictor(AttributesConfig(weights=str(folder)))


def test_missing_file_is_named(folder: Path) -> None:
    (folder / "attributes_default.xml").unlink()
    with pytest.raises(WeightsError, match=r"attributes_default\.xml is missing"):
        load_predictor(AttributesConfig(weights=str(folder)))


def test_malformed_record_is_refused(folder: Path) -> None:
    path = folder / "attributes_default.json"
    path.write_text(json.dumps({"name": "attributes_default"}))
    with pytest.raises(WeightsError, match="malformed"):
        model_record(AttributesConfig(weights=str(folder)))


def test_unshipped_model_names_its_training_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "is_shipped", lambda _: False)
    with pytest.raises(WeightsError, match=r"--config conf/train/embedding_svm\.toml and name their folder"):
        model_record(AttributesConfig(model="embedding_svm"))


def test_file_without_checksum_is_refused() -> None:
    with pytest.raises(WeightsError, match="has no checksum for"):
        load_file(load_record("mtcnn_pnet"), "pt")


@pytest.mark.parametrize("stage", STAGES)
def test_mtcnn_graph_equals_its_torch_network(stage: str) -> None:
    record = load_record(stage)
    side = record.input_size or 50
    pixels = np.random.default_rng(0).uniform(0, 255, (3, side, side, 4)).astype(np.float32)
    if stage == "mtcnn_pnet":
        pixels[..., 3] = 0.0  # no pixel outside the level
    pixels.flags.writeable = False
    normalized = torch.from_numpy((pixels[..., :3] - 127.5) / 128.0).permute(0, 3, 1, 2)
    network = load_torch_network(record, load_file(record, "safetensors"))
    with torch.inference_mode():
        expected = [output.numpy() for output in network(normalized)]
    outputs = OpenVinoModel(stage)(pixels)
    if stage == "mtcnn_pnet":
        (cells,) = outputs
        outputs = [1.0 / (1.0 + np.exp(-cells[..., 0])), cells[..., 1:]]
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_graphs_take_arrays_that_are_not_contiguous_or_not_writable() -> None:
    network, pixels = OpenVinoModel("mtcnn_rnet"), np.random.default_rng(0).uniform(0, 255, (9, 24, 48, 4))
    wide = pixels.astype(np.float32)
    expected = network(np.ascontiguousarray(wide[:, :, ::2]))
    wide.flags.writeable = False
    for ours, theirs in zip(network(wide[:, :, ::2]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_prefilter_graph_agrees_with_its_torch_network() -> None:
    record = load_record(PREFILTER)
    network = load_torch_network(record, load_file(record, "safetensors"))
    smooth = cv2.resize(np.random.default_rng(0).uniform(0, 255, (12, 16, 4)), (320, 240)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(smooth)[None])[0].numpy()
    (logits,) = OpenVinoModel(PREFILTER)(smooth[None])
    assert logits.shape == (1, *expected.shape)
    # 8 bits: correlated, and on the same side of the threshold where the network is confident.
    assert np.corrcoef(logits[0].ravel(), expected.ravel())[0, 1] > 0.98
    confident = np.abs(expected) > 2.0
    assert ((logits[0] >= 0) == (expected >= 0))[confident].mean() > 0.99


def _in_torch(record: WeightsRecord, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Runs the network in float32, calibrated like the graph, and returns probabilities of the product's classes."""
    module = wrap_for_inference(
        load_torch_network(record, load_file(record, "safetensors")), record.model_copy(update={"temperatures": {}})
    )
    with torch.inference_mode():
        outputs = module(*map(torch.from_numpy, inputs))
    scaled = (output.log() / record.temperatures[name] for name, output in zip(record.classes, outputs, strict=True))
    outputs = (torch.softmax(values, dim=1).numpy() for values in scaled)
    return ClassConverter(record)(dict(zip(record.classes, outputs, strict=True)))


@pytest.mark.skipif(
    not is_shipped("attributes_separate_grey"), reason="conf/train/separate_grey.toml makes its weights"
)
def test_16_bit_graph_equals_its_torch_network() -> None:
    model = load_predictor(AttributesConfig(model="separate_grey"))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), dtype=np.uint8).repeat(3, axis=3)
    predicted = model.predict(pixels)
    assert list(predicted) == ["age", "ethnicity", "emotion"]
    # The graph's constants are rounded to float16 after folding, the network's before.
    for name, expected in _in_torch(model.record, pixels).items():
        np.testing.assert_allclose(predicted[name], expected, atol=5e-3)


def test_8_bit_graph_agrees_with_float32(demo_faces: pa.Table) -> None:
    # One face in forty may lie between two classes.
    _check_8_bit_agreement(demo_faces, min_agreement=0.95)


@pytest.mark.slow
@needs_shared
def test_8_bit_graph_agrees_with_float32_on_all_sources() -> None:
    table = read_table(SHARED / "faces-val.parquet")
    faces = table.take(list(range(0, len(table), len(table) // 100)))
    _check_8_bit_agreement(faces, min_agreement=0.97)


def _check_8_bit_agreement(table: pa.Table, *, min_agreement: float) -> None:
    model = load_predictor(AttributesConfig())
    record = model.record
    faces = load_faces(table, record.input_size, record.margin)
    predicted = model.predict(faces.crops)
    assert list(predicted) == ["age", "gender", "ethnicity", "emotion"]
    assert record.mirrored
    expected = _in_torch(record, *preprocess(record, faces.crops))
    for name in CLASSES:
        agreement = (predicted[name].argmax(axis=1) == expected[name].argmax(axis=1)).mean()
        assert agreement >= min_agreement
        assert np.abs(predicted[name] - expected[name]).mean() < 0.02
    difference = expected_age(predicted["age"]) - expected_age(expected["age"])
    assert np.abs(difference).mean() < 0.6
    assert abs(difference.mean()) < 0.3


def test_uint8_pixels_are_quantized_without_scaling() -> None:
    model = load_openvino().Core().read_model(PACKAGE_WEIGHTS / "attributes_default.xml")
    ranges = []
    for layer in model.get_ordered_ops():
        # Three input channels: the first layers of both branches.
        if layer.get_type_name() == "Convolution" and list(layer.input(1).get_shape())[1] == 3:
            node = layer.input_value(0).get_node()
            while node.get_type_name() == "Transpose":
                node = node.input_value(0).get_node()
            assert node.get_type_name() == "FakeQuantize"
            ranges.append([float(node.input_value(index).get_node().data) for index in range(1, 5)])
    assert ranges == [[0.0, 255.0, 0.0, 255.0]] * 2


def test_8_bit_export_without_faces_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("json", "safetensors"):
        shutil.copy(PACKAGE_WEIGHTS / f"attributes_default.{suffix}", tmp_path)
    assert export.main(["attributes_default", "--folder", str(tmp_path)]) == 2
    assert "name some with --faces" in capsys.readouterr().err


def test_no_faces_give_empty_probabilities() -> None:
    model = load_predictor(AttributesConfig())
    predicted = model.predict(np.zeros((0, model.record.input_size, model.record.input_size, 3), np.uint8))
    assert {name: value.shape for name, value in predicted.items()} == {
        "age": (0, 101),
        "gender": (0, 2),
        "ethnicity": (0, 6),
        "emotion": (0, 7),
    }


def test_batching_does_not_change_probabilities() -> None:
    model = load_predictor(AttributesConfig())
    side = model.record.input_size
    # More faces than one batch: face 34 is in a later one.
    pixels = np.random.default_rng(1).integers(0, 256, (35, side, side, 3), dtype=np.uint8)
    batched = model.predict(pixels)
    for face in (2, 17, 34):
        alone = model.predict(pixels[face : face + 1])
        for name, values in batched.items():
            assert values.shape[0] == len(pixels)
            assert np.allclose(values.sum(axis=1), 1.0, atol=1e-4)
            np.testing.assert_allclose(values[face : face + 1], alone[name], atol=1e-5)


def test_mirrored_face_gets_equal_probabilities() -> None:
    model = load_predictor(AttributesConfig())
    assert model.record.model_version.endswith("-mirrored")
    pixels = np.random.default_rng(2).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    flipped = np.flip(pixels, axis=2).copy()
    plain, mirrored = model.predict(pixels), model.predict(flipped)
    # The face alone and its mirror image alone: the same image twice.
    graph, (pairs, small) = OpenVinoModel("attributes_default"), preprocess(model.record, pixels)
    convert = ClassConverter(model.record)
    one, other = (
        convert(dict(zip(plain, graph(np.repeat(pairs[offset::2], 2, axis=0), small), strict=True)))
        for offset in (0, 1)
    )
    for name in plain:
        assert np.abs(one[name] - other[name]).max() > 1e-4
        assert np.abs(one[name] - plain[name]).max() > 1e-4
        if name != "emotion":  # its second branch does not see the mirror image
            np.testing.assert_array_equal(plain[name], mirrored[name])


def test_export_is_deterministic(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        for stage in ("mtcnn_pnet", "mtcnn_rnet"):
            shutil.copy(PACKAGE_WEIGHTS / f"{stage}.safetensors", folder)
            export.main([stage, "--folder", str(folder)])
    one, two = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders)
    assert one == two
    assert len(one) == 8


def test_changed_graph_changes_the_version(tmp_path: Path) -> None:
    for suffix in ("json", "safetensors", "xml", "bin"):
        shutil.copy(PACKAGE_WEIGHTS / f"mtcnn_pnet.{suffix}", tmp_path)
    record = load_record("mtcnn_pnet", tmp_path)
    one, same = (write_record(tmp_path, record, ("safetensors", "xml", "bin")) for _ in range(2))
    with (tmp_path / "mtcnn_pnet.xml").open("a", encoding="utf-8") as graph:
        graph.write("\n")
    other = write_record(tmp_path, record, ("safetensors", "xml", "bin"))
    assert one.model_version == same.model_version
    assert other.model_version != one.model_version
