"""Whatever lies in a folder of weights: it is what its record says, in that folder, or one sentence says it is not."""

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

from faceattr_udf.attributes.labels import ATTRIBUTES, CLASSES
from faceattr_udf.attributes.predictor import GraphPredictor, SvmPredictor
from faceattr_udf.attributes.svm import RbfSvm
from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.openvino_backend import Graph
from faceattr_udf.networks.mtcnn import PNet
from faceattr_udf.training.export.__main__ import PACKAGE_WEIGHTS
from faceattr_udf.training.pretrained import load_earlier
from faceattr_udf.weights import load_record

NAME = "mtcnn_rnet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    for suffix in ("json", "xml", "bin"):
        shutil.copy(PACKAGE_WEIGHTS / f"{NAME}.{suffix}", folder)
    return folder


def record(folder: Path, stem: str = NAME, **changes: Any) -> None:
    """Changes a record, and makes it agree with the files beside it: what else is wrong must be seen all the same."""
    path = folder / f"{stem}.json"
    data = json.loads(path.read_text()) | changes
    for file in folder.glob(f"{stem}.*"):
        if file != path:
            data["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    path.write_text(json.dumps(data))


def refused(load: Callable[[], object]) -> str:
    with pytest.raises(WeightsError) as caught:
        load()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 300
    return sentence


@pytest.mark.parametrize("suffix", ["xml", "bin"])
def test_every_file_that_a_network_is_loaded_from_is_checked_first(
    folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / f"{NAME}.{suffix}").write_bytes((folder / f"{NAME}.{suffix}").read_bytes() + b"\n")
    monkeypatch.setattr("openvino.Core", lambda: pytest.fail("the runtime was given an altered file"))
    assert f"{NAME}.{suffix} has checksum" in refused(lambda: Graph(NAME, folder))


def test_what_is_checked_is_what_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is read once: none can change between its check and its use."""
    read: list[str] = []
    original = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        read.append(self.name)
        content = original(self)
        if self.parent == folder:
            self.write_bytes(b"altered right after it was read")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    Graph(NAME, folder)
    assert sorted(read) == [f"{NAME}.bin", f"{NAME}.json", f"{NAME}.xml"]


@pytest.mark.parametrize("suffix", ["json", "xml", "bin"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, suffix: str) -> None:
    file = folder / f"{NAME}.{suffix}"
    outside = file.rename(folder.parent / file.name)
    file.symlink_to(outside)
    assert f"{NAME}.{suffix} in {folder} is a link out of that folder" in refused(lambda: Graph(NAME, folder))


def test_links_inside_the_folder_and_to_the_folder_are_followed(folder: Path) -> None:
    """As container platforms mount versions of a folder."""
    (folder / "..2026").mkdir()
    for file in [*folder.glob(f"{NAME}.*")]:
        file.rename(folder / "..2026" / file.name)
        file.symlink_to(Path("..2026") / file.name)
    (folder.parent / "link").symlink_to(folder)
    Graph(NAME, folder.parent / "link")


def test_a_link_to_itself_is_missing(folder: Path) -> None:
    (folder / f"{NAME}.xml").unlink()
    (folder / f"{NAME}.xml").symlink_to(f"{NAME}.xml")
    assert f"{NAME}.xml is missing" in refused(lambda: Graph(NAME, folder))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", ".", "a\nb"])
def test_a_name_in_a_record_is_no_path(folder: Path, name: str) -> None:
    (folder.parent / "secret.xml").write_text("secret")
    record(folder, name=name)
    assert f"{NAME}.json is malformed (first: name)" in refused(lambda: Graph(NAME, folder))


def test_a_record_of_another_network_is_refused(folder: Path) -> None:
    record(folder, name="mtcnn_onet")
    assert f"{NAME}.json is that of mtcnn_onet" in refused(lambda: Graph(NAME, folder))


def test_a_record_that_asks_for_other_inputs_than_its_graph_takes_is_refused(folder: Path) -> None:
    record(folder, mirrored=True)
    assert f"{NAME}.xml takes 1 of the 2 inputs that {NAME}.json says" in refused(lambda: Graph(NAME, folder))


@pytest.mark.parametrize("backbone", ["../../x-1", "/x-1", "x", "-1", "x-", "x-1\n", "a/b-1"])
def test_a_backbone_in_a_record_is_no_path(folder: Path, backbone: str) -> None:
    record(folder, backbone=backbone)
    assert "malformed (first: backbone)" in refused(lambda: load_record(NAME, folder))


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
    ids=["empty", "bytes", "null", "list", "cut", "deep", "lacking", "unknown", "pickle"],
)
def test_a_record_that_is_none(folder: Path, content: bytes) -> None:
    (folder / f"{NAME}.json").write_bytes(content)
    assert f"{NAME}.json is malformed" in refused(lambda: Graph(NAME, folder))


@pytest.mark.parametrize(
    "checksums", [{}, {f"{NAME}.xml": "0" * 64}, {f"../{NAME}.xml": "0" * 64, f"{NAME}.bin": ""}, {f"{NAME}.xml": ""}]
)
def test_a_record_without_the_right_checksums(folder: Path, checksums: dict[str, str]) -> None:
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": checksums}))
    assert "checksum" in refused(lambda: Graph(NAME, folder))


DOCTYPE = b'<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/hostname">]><net '
LAUGHS = b'<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "' + b"&a;" * 1000 + b'">]><net '
CONSTANT = b'offset="32" size="4032"'


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"<net ", DOCTYPE, "document type"),
        (b"<net ", LAUGHS, "document type"),
        (b"<net ", b"<model ", "does not begin with <net>|not whole XML"),
        (b"</net>", b"", "not whole XML"),
        (b"<layers>", b"<layers", "not whole XML"),
        (b'type="Reshape" version="opset1"', b'type="Steal" version="extension"', "layer 2 is of an extension"),
        (b'type="Reshape" version="opset1"', b'type="Steal" version="opset1"', "cannot|can compile"),
        (b'type="Reshape" version="opset1"', b'type="Reshape"', "not whole XML"),
        (CONSTANT, b'offset="99999999" size="4032"', "4032 bytes at 99999999 are not in the"),
        (CONSTANT, b'offset="18446744073709551584" size="4032"', "are not in the"),
        (CONSTANT, b'offset="-32" size="4032"', "are not in the"),
        (CONSTANT, b'offset="32" size="-1"', "are not in the"),
        (CONSTANT, b'offset="weights.bin" size="4032"', "invalid literal"),
        (b'shape="28, 1, 3, 12"', b'shape="28000, 1, 300, 12"', "can compile"),
        (b'from-layer="0"', b'from-layer="7777"', "can compile"),
    ],
)
def test_a_graph_that_export_did_not_make(folder: Path, old: bytes, new: bytes, reason: str) -> None:
    path = folder / f"{NAME}.xml"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    record(folder)
    with pytest.raises(WeightsError, match=reason):
        Graph(NAME, folder)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x08\x12\x07pytorch" + bytes(64), b"\0" * 64, b"<net/>"])
def test_another_format_is_not_even_given_to_the_runtime(
    folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its readers of other formats follow paths to further files."""
    (folder / f"{NAME}.xml").write_bytes(content)
    record(folder)
    if content != b"<net/>":
        monkeypatch.setattr("openvino.Core", lambda: pytest.fail("the runtime was given no graph"))
    refused(lambda: Graph(NAME, folder))


def test_constants_of_another_length_are_refused(folder: Path) -> None:
    (folder / f"{NAME}.bin").write_bytes(b"")
    record(folder)
    assert "are not in the 0 bytes" in refused(lambda: Graph(NAME, folder))


def test_a_graph_of_other_outputs_than_its_record_names(tmp_path: Path) -> None:
    for suffix in ("json", "xml", "bin"):
        shutil.copy(PACKAGE_WEIGHTS / f"attributes_default.{suffix}", tmp_path)
    record(tmp_path, "attributes_default", embedding=True)
    assert "gives not the outputs" in refused(lambda: GraphPredictor("attributes_default", tmp_path))


SIZES = {"age": 8} | {name: len(labels) for name, labels in CLASSES.items()}


class Embedder:
    """Stands for the graph of the embedding."""

    def __init__(self, *_: object) -> None:
        self.record = load_record("attributes_default").model_copy(update={"version": "1"})

    def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        return {"embedding": np.ones((len(crops), 4), dtype=np.float32)}


def machines(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    arrays: dict[str, Any] = {"age.years": np.full((8, 101), 1 / 101, dtype=np.float32)}
    for name in ATTRIBUTES:
        pairs = SIZES[name] * (SIZES[name] - 1) // 2
        machine = RbfSvm(
            np.ones((3, 4), np.float32), np.ones((3, pairs), np.float32), np.ones(pairs, np.float32), 1.0, SIZES[name]
        )
        arrays |= machine.arrays(name)
    return {name: value for name, value in (arrays | changes).items() if value is not None}


@pytest.fixture
def svm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], SvmPredictor]:
    """Loads support vector machines from the bytes of their safetensors."""
    monkeypatch.setattr("faceattr_udf.attributes.predictor.GraphPredictor", Embedder)

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
        record(tmp_path, "attributes_embedding_svm")
        return SvmPredictor("attributes_embedding_svm", tmp_path)

    return load


def test_whole_machines_are_loaded(svm: Callable[[bytes], SvmPredictor]) -> None:
    outputs = svm(save(machines())).predict(np.zeros((2, 8, 8, 3), dtype=np.uint8))
    assert outputs["age"].shape == (2, 101)


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
        pickle.dumps(machines()),
        save(machines(**{"age.gamma": np.zeros(0)})),
        save(machines(**{"age.gamma": np.array([np.nan])})),
        save(machines(**{"age.classes": np.array([10**9])})),
        save(machines(**{"age.vectors": np.ones((3, 5), np.float32)})),
        save(machines(**{"age.vectors": np.ones(3, np.float32)})),
        save(machines(**{"age.coefficients": np.ones((3, 2), np.float32)})),
        save(machines(**{"age.years": np.ones((2, 101), np.float32)})),
        save(machines(**{"age.years": None})),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_malformed_safetensors(svm: Callable[[bytes], SvmPredictor], content: bytes) -> None:
    assert "are not support vector machines" in refused(lambda: svm(content))


def test_machines_are_loaded_only_with_their_checksum(
    svm: Callable[[bytes], SvmPredictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svm(save(machines()))
    (tmp_path / "attributes_embedding_svm.safetensors").write_bytes(save(machines(other=np.zeros(1))))
    monkeypatch.setattr("faceattr_udf.attributes.predictor.load", lambda _: pytest.fail("an altered file was read"))
    sentence = refused(lambda: SvmPredictor("attributes_embedding_svm", tmp_path))
    assert "attributes_embedding_svm.safetensors has checksum" in sentence


def test_machines_without_a_backbone(svm: Callable[[bytes], SvmPredictor], tmp_path: Path) -> None:
    svm(save(machines()))
    record(tmp_path, "attributes_embedding_svm", backbone=None)
    assert "names no backbone" in refused(lambda: SvmPredictor("attributes_embedding_svm", tmp_path))


class Touch:
    """A pickle that leaves a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    return tmp_path / "trap was sprung"


def test_the_trap_works(trap: Path) -> None:
    pickle.loads(pickle.dumps(Touch(trap)))  # noqa: S301 - that this runs what it reads is the point
    assert trap.exists()


def test_training_runs_nothing_that_initial_weights_hold(trap: Path, tmp_path: Path) -> None:
    torch.save({"face.weight": Touch(trap)}, tmp_path / "earlier.pt")
    assert "is not a readable weights file" in refused(lambda: load_earlier(PNet(), tmp_path / "earlier.pt"))
    assert not trap.exists()


def test_training_runs_nothing_that_a_checkpoint_holds(trap: Path, tmp_path: Path) -> None:
    from faceattr_udf.training.loop import _optimizer, _State
    from faceattr_udf.training.settings import TrainingSettings

    network = PNet()
    torch.save({"network": Touch(trap)}, tmp_path / "checkpoint.pt")
    state = _State(network, network, _optimizer(network, TrainingSettings()))
    assert "checkpoint.pt is not one" in refused(lambda: state.restore(tmp_path / "checkpoint.pt"))
    assert not trap.exists()


def test_nothing_that_runs_at_night_is_a_pickle() -> None:
    shipped = [path for path in PACKAGE_WEIGHTS.iterdir() if path.suffix not in {".py", ""}]
    assert {path.suffix for path in shipped} == {".json", ".xml", ".bin", ".safetensors"}
    for path in shipped:
        named = load_record(path.stem).sha256
        assert path.suffix == ".json" or path.name in named
