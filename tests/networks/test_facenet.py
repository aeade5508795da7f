"""The multi-task FaceNet: frozen layers stay as they are, the embedding has length 1, each branch has its own task."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from faceattr_udf.attributes.labels import BINS
from faceattr_udf.errors import WeightsError
from faceattr_udf.networks.facenet import MultitaskFacenet
from faceattr_udf.training.pretrained import load_earlier

FROZEN = ["conv2d_1a", "conv2d_2a", "repeat_1"]


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand((4, 3, 112, 112), generator=torch.Generator().manual_seed(0)) * 255


def test_the_embedding_has_128_numbers_and_length_one(pixels: torch.Tensor) -> None:
    outputs = MultitaskFacenet().eval()(pixels)
    assert outputs["embedding"].shape == (4, 128)
    assert torch.allclose(outputs["embedding"].norm(dim=1), torch.ones(4), atol=1e-5)
    assert {name: outputs[name].shape[1] for name in BINS} == BINS
    assert outputs["shares"].shape == (4, len(BINS))


def _step(network: MultitaskFacenet, pixels: torch.Tensor) -> None:
    network.train()
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.0005
    )
    for _ in range(2):
        outputs = network(pixels)
        sum(outputs[name].square().sum() for name in BINS).backward()  # type: ignore[union-attr]
        optimizer.step()


def test_frozen_layers_and_their_statistics_do_not_move_and_others_do(pixels: torch.Tensor) -> None:
    network = MultitaskFacenet()
    network.freeze(FROZEN)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _step(network, pixels)
    still = tuple(f"backbone.{layer}." for layer in FROZEN)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if name.startswith(still)]
    assert "backbone.last_linear.weight" in moved
    assert "backbone.repeat_2.0.conv2d.weight" in moved
    assert "backbone.mixed_7a.branch0.0.bn.running_mean" in moved
    assert all(f"branches.{name}.0.weight" in moved for name in BINS)


def test_without_freezing_the_same_layers_move(pixels: torch.Tensor) -> None:
    network = MultitaskFacenet()
    before = network.backbone.conv2d_1a.conv.weight.clone()
    _step(network, pixels)
    assert not torch.equal(network.backbone.conv2d_1a.conv.weight, before)


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"no layer conv_9.*it has conv2d_1a"):
        MultitaskFacenet().freeze(["conv_9"])


def test_only_the_frozen_layers_are_restored(tmp_path: Path) -> None:
    given, fresh = MultitaskFacenet(), MultitaskFacenet()
    save_file(dict(given.state_dict()), tmp_path / "given.safetensors")
    before = fresh.state_dict()["backbone.last_linear.weight"].clone()
    load_earlier(fresh, tmp_path / "given.safetensors", only=("backbone.conv2d_1a.",))
    state = fresh.state_dict()
    assert torch.equal(state["backbone.conv2d_1a.conv.weight"], given.state_dict()["backbone.conv2d_1a.conv.weight"])
    assert torch.equal(state["backbone.last_linear.weight"], before)


def test_weights_with_the_names_of_facenet_pytorch_fit(tmp_path: Path) -> None:
    given, fresh = MultitaskFacenet(), MultitaskFacenet()
    torch.save(given.backbone.state_dict(), tmp_path / "vggface2.pt")
    load_earlier(fresh, tmp_path / "vggface2.pt", only=("backbone.repeat_1.",))
    key = "backbone.repeat_1.0.conv2d.weight"
    assert torch.equal(fresh.state_dict()[key], given.state_dict()[key])


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"backbone": MultitaskFacenet}, tmp_path / "code.pt")
    with pytest.raises(WeightsError, match=r"code\.pt is not a readable weights file"):
        load_earlier(MultitaskFacenet(), tmp_path / "code.pt")
