"""Tests that weights folders with altered, malformed or malicious files are refused with one plain sentence."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from faceattr_udf.attributes.predictor import NetworkPredictor, SvmPredictor
from faceattr_udf.attributes.svm import RbfSvm
from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.openvino_backend import OpenVinoModel
from faceattr_udf.labels import ATTRIBUTES, NUM_CLASSES
from faceattr_udf.networks.mtcnn import PNet
from faceattr_udf.training.export.record import PACKAGE_WEIGHTS
from faceattr_udf.training.pretrained import load_pretrained
from faceattr_udf.weights import load_record

NAME = "mtcnn_rnet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    for suffix in ("json", "xml", "bin"):
        shutil.copy(PACKAGE_WEIGHTS / f"{NAME}.{suffix}", folder)
    return folder


def rewrite_record(folder: Path, stem: str = NAME, **changes: Any) -> None:
    """Changes a record and updates its checksums, so that only other checks can fail."""
    path = folder / f"{stem}.json"
    data = json.loads(path.read_text()) | changes
    for file in folder.glob(f"{stem}.*"):
        if file != path:
            data["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    path.write_text(json.dumps(data))


def error_of(load: Callable[[], object]) -> str:
    with pytest.raises(WeightsError) as caught:
        load()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 300
    return sentence


def load_error(folder: Path) -> str:
    return error_of(lambda: OpenVinoModel(NAME, folder))


@pytest.mark.parametrize("suffix", ["xml", "bin"])
def test_checksums_are_verified_before_openvino_runs(
    folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / f"{NAME}.{suffix}").write_bytes((folder / f"{NAME}.{suffix}").read_bytes() + b"\n")
    monkeypatch.setattr("openvino.Core", lambda: pytest.fail("OpenVINO was given an altered file"))
    assert f"{NAME}.{suffix} has checksum" in load_error(folder)


def test_verified_bytes_are_the_used_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is read once, so that it cannot change between its check and its use."""
    read: list[str] = []
    original = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        read.append(self.name)
        content = original(self)
        if self.parent == folder:
            self.write_bytes(b"altered after it was read")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    OpenVinoModel(NAME, folder)
    assert sorted(read) == [f"{NAME}.bin", f"{NAME}.json", f"{NAME}.xml"]


@pytest.mark.parametrize("suffix", ["json", "xml", "bin"])
def test_link_out_of_the_folder_is_refused(folder: Path, suffix: str) -> None:
    file = folder / f"{NAME}.{suffix}"
    outside = file.rename(folder.parent / file.name)
    file.symlink_to(outside)
    assert f"{NAME}.{suffix} in {folder} is a link that leaves the folder" in error_of(
        lambda: OpenVinoModel(NAME, folder)
    )


def test_links_inside_the_folder_are_followed(folder: Path) -> None:
    """Container platforms mount versioned folders in this way."""
    (folder / "..2026").mkdir()
    for file in [*folder.glob(f"{NAME}.*")]:
        file.rename(folder / "..2026" / file.name)
        file.symlink_to(Path("..2026") / file.name)
    (folder.parent / "link").symlink_to(folder)
    OpenVinoModel(NAME, folder.parent / "link")


def test_link_to_itself_is_reported_as_missing(folder: Path) -> None:
    (folder / f"{NAME}.xml").unlink()
    (folder / f"{NAME}.xml").symlink_to(f"{NAME}.xml")
    assert f"{NAME}.xml is missing" in load_error(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", ".", "a\nb"])
def test_name_in_a_record_cannot_be_a_path(folder: Path, name: str) -> None:
    (folder.parent / "secret.xml").write_text("secret")
    rewrite_record(folder, name=name)
    assert f"{NAME}.json is malformed (first error: name)" in load_error(folder)


def test_record_of_another_network_is_refused(folder: Path) -> None:
    rewrite_record(folder, name="mtcnn_onet")
    assert f"{NAME}.json belongs to mtcnn_onet" in load_error(folder)


def test_record_with_wrong_input_count_is_refused(folder: Path) -> None:
    rewrite_record(folder, mirrored=True)
    assert f"the number of inputs of {NAME}.xml is 1, but {NAME}.json describes 2" in error_of(
        lambda: OpenVinoModel(NAME, folder)
    )


@pytest.mark.parametrize("backbone", ["../../x-1", "/x-1", "x", "-1", "x-", "x-1\n", "a/b-1"])
def test_backbone_in_a_record_cannot_be_a_path(folder: Path, backbone: str) -> None:
    rewrite_record(folder, backbone=backbone)
    assert "malformed (first error: backbone)" in error_of(lambda: load_record(NAME, folder))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"name": "mtcnn_rnet"}',
        b'{"__class__": "os.system", "name": "mtcnn_rnet"}',
        pickle.dumps({"name": NAME}),
    ],
    ids=["empty", "bytes", "null", "list", "truncated", "deep", "incomplete", "unknown", "pickle"],
)
def test_malformed_record_is_refused(folder: Path, content: bytes) -> None:
    (folder / f"{NAME}.json").write_bytes(content)
    assert f"{NAME}.json is malformed" in load_error(folder)


@pytest.mark.parametrize(
    "checksums", [{}, {f"{NAME}.xml": "0" * 64}, {f"../{NAME}.xml": "0" * 64, f"{NAME}.bin": ""}, {f"{NAME}.xml": ""}]
)
def test_record_with_wrong_checksums_is_refused(folder: Path, checksums: dict[str, str]) -> None:
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": checksums}))
    assert "checksum" in load_error(folder)


DOCTYPE = b'<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/hostname">]><net '
LAUGHS = b'<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "' + b"&a;" * 1000 + b'">]><net '
CONSTANT = b'offset="32" size="4032"'


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"<net ", DOCTYPE, "document type"),
        (b"<net ", LAUGHS, "document type"),
        (b"<net ", b"<model ", "root element is not <net>|not well-formed XML"),
        (b"</net>", b"", "not well-formed XML"),
        (b"<layers>", b"<layers", "not well-formed XML"),
        (b'type="Reshape" version="opset1"', b'type="Steal" version="extension"', "layer 2 belongs to an extension"),
        (b'type="Reshape" version="opset1"', b'type="Steal" version="opset1"', "cannot compile"),
        (b'type="Reshape" version="opset1"', b'type="Reshape"', "not well-formed XML"),
        (CONSTANT, b'offset="99999999" size="4032"', "4032 bytes at offset 99999999 are outside the"),
        (CONSTANT, b'offset="18446744073709551584" size="4032"', "are outside the"),
        (CONSTANT, b'offset="-32" size="4032"', "are outside the"),
        (CONSTANT, b'offset="32" size="-1"', "are outside the"),
        (CONSTANT, b'offset="weights.bin" size="4032"', "invalid literal"),
        (b'shape="28, 1, 3, 12"', b'shape="28000, 1, 300, 12"', "cannot compile"),
        (b'from-layer="0"', b'from-layer="7777"', "cannot compile"),
    ],
)
def test_invalid_graph_is_refused(folder: Path, old: bytes, new: bytes, reason: str) -> None:
    path = folder / f"{NAME}.xml"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    rewrite_record(folder)
    with pytest.raises(WeightsError, match=reason):
        OpenVinoModel(NAME, folder)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x08\x12\x07pytorch" + bytes(64), b"\0" * 64, b"<net/>"])
def test_other_formats_never_reach_openvino(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO tries other formats, some of which open further files."""
    (folder / f"{NAME}.xml").write_bytes(content)
    rewrite_record(folder)
    if content != b"<net/>":
        monkeypatch.setattr("openvino.Core", lambda: pytest.fail("OpenVINO was given something else than a graph"))
    load_error(folder)


def test_truncated_constants_are_refused(folder: Path) -> None:
    (folder / f"{NAME}.bin").write_bytes(b"")
    rewrite_record(folder)
    assert "are outside the 0 bytes" in load_error(folder)


def test_graph_with_wrong_outputs_is_refused(tmp_path: Path) -> None:
    for suffix in ("json", "xml", "bin"):
        shutil.copy(PACKAGE_WEIGHTS / f"attributes_default.{suffix}", tmp_path)
    rewrite_record(tmp_path, "attributes_default", embedding=True)
    assert "do not match attributes_default.json" in error_of(lambda: NetworkPredictor("attributes_default", tmp_path))


SIZES = {name: len(labels) for name, labels in load_record("attributes_default").classes.items()} | {"age": 8}


class Embedder:
    """Stands in for the network of the embedding."""

    def __init__(self, *_: object, **__: object) -> None:
        self.record = load_record("attributes_default").model_copy(update={"version": "1"})

    def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        return {"embedding": np.ones((len(crops), 4), dtype=np.float32)}


def svm_of(classes: int) -> RbfSvm:
    pairs = classes * (classes - 1) // 2
    parts = (np.ones((3, 4), np.float32), np.ones((3, pairs), np.float32), np.ones(pairs, np.float32))
    return RbfSvm(*parts, 1.0, classes)


def svm_arrays(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    arrays: dict[str, Any] = {"age.years": np.full((8, 101), 1 / 101, dtype=np.float32)}
    for name in ATTRIBUTES:
        arrays |= svm_of(SIZES[name]).to_arrays(name)
    return {name: value for name, value in (arrays | changes).items() if value is not None}


@pytest.fixture
def svm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], SvmPredictor]:
    """Loads an `SvmPredictor` from the bytes of its safetensors file."""
    monkeypatch.setattr("faceattr_udf.attributes.predictor.NetworkPredictor", Embedder)

    def load(content: bytes) -> SvmPredictor:
        data = json.loads((PACKAGE_WEIGHTS / "attributes_default.json").read_text())
        data |= {
            "name": "attributes_embedding_svm",
            "backbone": "attributes_default-1",
            "embedding": True,
            "sha256": {},
        }
        (tmp_path / "attributes_embedding_svm.json").write_text(json.dumps(data))
        (tmp_path / "attributes_embedding_svm.safetensors").write_bytes(content)
        rewrite_record(tmp_path, "attributes_embedding_svm")
        return SvmPredictor("attributes_embedding_svm", tmp_path)

    return load


def test_valid_svms_are_loaded(svm: Callable[[bytes], SvmPredictor]) -> None:
    outputs = svm(save(svm_arrays())).predict(np.zeros((2, 8, 8, 3), dtype=np.uint8))
    assert {name: outputs[name].shape for name in NUM_CLASSES} == {n: (2, size) for n, size in NUM_CLASSES.items()}


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        (2**63).to_bytes(8, "little"),
        header(b"{"),
        header(b"[]"),
        header(b'{"a": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4000000000]}}'),
        header(b'{"a": {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 8]}}') + bytes(8),
        header(b'{"age.vectors": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}') + bytes(2),
        save({"other": np.zeros(1)}),
        pickle.dumps(svm_arrays()),
        save(svm_arrays(**{"age.gamma": np.zeros(0)})),
        save(svm_arrays(**{"age.gamma": np.array([np.nan])})),
        save(svm_arrays(**{"age.classes": np.array([10**9])})),
        save(svm_arrays(**{"age.vectors": np.ones((3, 5), np.float32)})),
        save(svm_arrays(**{"age.vectors": np.ones(3, np.float32)})),
        save(svm_arrays(**{"age.coefficients": np.ones((3, 2), np.float32)})),
        save(svm_arrays(**{"age.years": np.ones((2, 101), np.float32)})),
        save(svm_arrays(**{"age.years": None})),
        save(svm_arrays(**svm_of(5).to_arrays("ethnicity"))),  # the record has six ethnicities
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_malformed_svms_are_refused(svm: Callable[[bytes], SvmPredictor], content: bytes) -> None:
    assert "does not hold valid SVMs" in error_of(lambda: svm(content))


def test_svms_with_wrong_checksum_are_not_parsed(
    svm: Callable[[bytes], SvmPredictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svm(save(svm_arrays()))
    (tmp_path / "attributes_embedding_svm.safetensors").write_bytes(save(svm_arrays(other=np.zeros(1))))
    monkeypatch.setattr("faceattr_udf.attributes.predictor.load", lambda _: pytest.fail("an altered file was parsed"))
    sentence = error_of(lambda: SvmPredictor("attributes_embedding_svm", tmp_path))
    assert "attributes_embedding_svm.safetensors has checksum" in sentence


def test_svms_without_a_backbone_are_refused(svm: Callable[[bytes], SvmPredictor], tmp_path: Path) -> None:
    svm(save(svm_arrays()))
    rewrite_record(tmp_path, "attributes_embedding_svm", backbone=None)
    assert "names no backbone" in error_of(lambda: SvmPredictor("attributes_embedding_svm", tmp_path))


class Touch:
    """A pickle that leaves a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "pickle was executed"


def test_touch_pickle_runs_code(marker: Path) -> None:
    pickle.loads(pickle.dumps(Touch(marker)))  # noqa: S301 - shows that the pickle of these tests runs code
    assert marker.exists()


def test_initial_weights_run_no_code(marker: Path, tmp_path: Path) -> None:
    torch.save({"face.weight": Touch(marker)}, tmp_path / "earlier.pt")
    assert "is not a readable weights file" in error_of(lambda: load_pretrained(PNet(), tmp_path / "earlier.pt"))
    assert not marker.exists()


def test_training_checkpoints_run_no_code(marker: Path, tmp_path: Path) -> None:
    from faceattr_udf.training.loop import TrainingState
    from faceattr_udf.training.settings import OptimSettings

    network = PNet()
    torch.save({"network": Touch(marker)}, tmp_path / "checkpoint.pt")
    state = TrainingState.start(network, OptimSettings())
    assert "checkpoint.pt is not a checkpoint" in error_of(lambda: state.restore(tmp_path / "checkpoint.pt"))
    assert not marker.exists()


def test_shipped_weights_are_no_pickles() -> None:
    shipped = [path for path in PACKAGE_WEIGHTS.iterdir() if path.suffix not in {".py", ""}]
    assert {path.suffix for path in shipped} == {".json", ".xml", ".bin", ".safetensors"}
    for path in shipped:
        named = load_record(path.name.partition(".")[0]).sha256
        assert path.name == f"{path.name.partition('.')[0]}.json" or path.name in named
