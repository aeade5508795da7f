"""Tests of the multi-task FaceNet: frozen layers, the unit-length embedding, restored weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from faceattr_udf.errors import WeightsError
from faceattr_udf.labels import NUM_CLASSES
from faceattr_udf.networks.facenet import MultitaskFacenet
from faceattr_udf.training.pretrained import load_pretrained

FROZEN = ["conv2d_1a", "conv2d_2a", "repeat_1"]


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand((4, 3, 112, 112), generator=torch.Generator().manual_seed(0)) * 255


def test_embedding_has_128_dimensions_and_unit_length(pixels: torch.Tensor) -> None:
    outputs = MultitaskFacenet().eval()(pixels)
    assert outputs["embedding"].shape == (4, 128)
    assert torch.allclose(outputs["embedding"].norm(dim=1), torch.ones(4), atol=1e-5)
    assert {name: outputs[name].shape[1] for name in NUM_CLASSES} == NUM_CLASSES
    assert outputs["shares"].shape == (4, len(NUM_CLASSES))


def _step(network: MultitaskFacenet, pixels: torch.Tensor) -> None:
    network.train()
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.0005
    )
    for _ in range(2):
        outputs = network(pixels)
        sum(outputs[name].square().sum() for name in NUM_CLASSES).backward()  # type: ignore[union-attr]
        optimizer.step()


def test_only_frozen_layers_stay_unchanged(pixels: torch.Tensor) -> None:
    network = MultitaskFacenet()
    network.freeze(FROZEN)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _step(network, pixels)
    frozen = tuple(f"backbone.{layer}." for layer in FROZEN)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in changed if name.startswith(frozen)]
    assert "backbone.last_linear.weight" in changed
    assert "backbone.repeat_2.0.conv2d.weight" in changed
    assert "backbone.mixed_7a.branch0.0.bn.running_mean" in changed
    assert all(f"branches.{name}.0.weight" in changed for name in NUM_CLASSES)


def test_unfrozen_layers_are_trained(pixels: torch.Tensor) -> None:
    network = MultitaskFacenet()
    before = network.backbone.conv2d_1a.conv.weight.clone()
    _step(network, pixels)
    assert not torch.equal(network.backbone.conv2d_1a.conv.weight, before)


def test_unknown_layer_is_named() -> None:
    with pytest.raises(ValueError, match=r"no layer conv_9.*its layers are conv2d_1a"):
        MultitaskFacenet().freeze(["conv_9"])


def test_only_named_layers_are_restored(tmp_path: Path) -> None:
    given, fresh = MultitaskFacenet(), MultitaskFacenet()
    save_file(dict(given.state_dict()), tmp_path / "given.safetensors")
    before = fresh.state_dict()["backbone.last_linear.weight"].clone()
    load_pretrained(fresh, tmp_path / "given.safetensors", prefixes=("backbone.conv2d_1a.",))
    state = fresh.state_dict()
    assert torch.equal(state["backbone.conv2d_1a.conv.weight"], given.state_dict()["backbone.conv2d_1a.conv.weight"])
    assert torch.equal(state["backbone.last_linear.weight"], before)


def test_facenet_pytorch_weights_are_restored(tmp_path: Path) -> None:
    given, fresh = MultitaskFacenet(), MultitaskFacenet()
    torch.save(given.backbone.state_dict(), tmp_path / "vggface2.pt")
    load_pretrained(fresh, tmp_path / "vggface2.pt", prefixes=("backbone.repeat_1.",))
    key = "backbone.repeat_1.0.conv2d.weight"
    assert torch.equal(fresh.state_dict()[key], given.state_dict()[key])


def test_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"backbone": MultitaskFacenet}, tmp_path / "code.pt")
    with pytest.raises(WeightsError, match=r"code\.pt is not a readable weights file"):
        load_pretrained(MultitaskFacenet(), tmp_path / "code.pt")
