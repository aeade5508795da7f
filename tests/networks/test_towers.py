"""Tests of the two branches of the default network: their outputs, and which one is trained."""

import copy

import numpy as np
import pytest
import torch

from faceattr_udf.attributes.preprocess import preprocess
from faceattr_udf.networks.towers import EMOTION_SHARE, INPUT_SIZE, Branch, TwoTowers
from faceattr_udf.weights import load_record
from faceattr_udf.weights.inputs import EMOTION_SIZE, MEAN_PIXEL, PADDING_VALUE

TASKS = ["age", "gender", "ethnicity", "emotion"]
# uint8 pixels are convolved before the mean pixel is subtracted, which rounds by about 1e-5 in float32.
ROUNDING = {"rtol": 1e-4, "atol": 5e-5}


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    values = np.random.default_rng(0).integers(0, 256, (3, 3, INPUT_SIZE, INPUT_SIZE))
    return torch.from_numpy(values).float()


@pytest.fixture
@torch.no_grad()
def network(pixels: torch.Tensor) -> TwoTowers:
    torch.manual_seed(0)
    network = TwoTowers().train()
    for branch in (network.general, network.emotion):
        # Makes the padding of `forward` equal to that of `forward_uint8`.
        branch.mean_pixel.fill_(PADDING_VALUE)
        # An untrained network needs batch statistics: without them it gives all images the same output.
        for layer in branch.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        branch(pixels)
    return network.eval()


def _mirrored_mean(network: TwoTowers, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    one, other = network.general(pixels), network.general(pixels.flip(3))
    return {name: (torch.softmax(one[name], 1) + torch.softmax(other[name], 1)) / 2 for name in one}


@torch.no_grad()
def test_untrained_emotion_branch_contributes_nothing(network: TwoTowers, pixels: torch.Tensor) -> None:
    outputs = network(pixels)
    assert list(outputs) == TASKS
    for name, expected in _mirrored_mean(network, pixels).items():
        torch.testing.assert_close(torch.softmax(outputs[name], 1), expected)
        torch.testing.assert_close(outputs[name].exp(), expected)


@torch.no_grad()
def test_only_emotion_averages_both_branches(network: TwoTowers, pixels: torch.Tensor) -> None:
    network.emotion_share.fill_(EMOTION_SHARE)
    outputs, expected = network(pixels), _mirrored_mean(network, pixels)
    small = torch.nn.functional.interpolate(pixels, size=(EMOTION_SIZE, EMOTION_SIZE), mode="bilinear")
    second = torch.softmax(network.emotion(small)["emotion"], 1)
    expected["emotion"] = (1 - EMOTION_SHARE) * expected["emotion"] + EMOTION_SHARE * second
    for name in TASKS:
        torch.testing.assert_close(outputs[name].exp(), expected[name], **ROUNDING)


@torch.no_grad()
def test_forward_uint8_equals_forward(network: TwoTowers, pixels: torch.Tensor) -> None:
    content = pixels.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    pairs, small = map(torch.from_numpy, preprocess(load_record("attributes_default"), content))
    for outputs, expected in zip(
        network.general.forward_uint8(pairs).values(), network.general(pixels).values(), strict=True
    ):
        torch.testing.assert_close(outputs[0::2], expected, **ROUNDING)
    network.emotion_share.fill_(1.0)
    from_uint8, from_float = network.forward_uint8(pairs, small), network(pixels)
    for name in TASKS:
        # The resized uint8 faces are rounded.
        rounding = {"rtol": 0.0, "atol": 0.03} if name == "emotion" else ROUNDING
        torch.testing.assert_close(from_uint8[name].exp(), from_float[name].exp(), **rounding)


def test_padding_is_close_to_the_mean_pixel() -> None:
    assert max(abs(PADDING_VALUE - value) for value in MEAN_PIXEL) < 12


@torch.no_grad()
def test_no_faces_give_no_logits(network: TwoTowers, pixels: torch.Tensor) -> None:
    assert {name: tuple(values.shape) for name, values in network(pixels[:0]).items()} == {
        "age": (0, 101), "gender": (0, 2), "ethnicity": (0, 6), "emotion": (0, 7),
    }  # fmt: skip


def test_only_the_selected_branch_has_gradients(network: TwoTowers, pixels: torch.Tensor) -> None:
    for branch, tasks in (("general", TASKS), ("emotion", ["emotion"])):
        network.zero_grad(set_to_none=True)
        network.select_branch(branch)  # type: ignore[arg-type]  # a str, because of the loop
        outputs = network.train()(pixels[:, :, :64, :64])
        assert list(outputs) == tasks
        torch.stack([values.sum() for values in outputs.values()]).sum().backward()  # type: ignore[no-untyped-call]
        trained = {name.partition(".")[0] for name, values in network.named_parameters() if values.grad is not None}
        assert trained == {branch}


@pytest.mark.parametrize("branch", ["general", "emotion"])
def test_frozen_units_keep_weights_and_statistics(branch: Branch, pixels: torch.Tensor) -> None:
    network = TwoTowers()
    network.select_branch(branch, frozen_units=3)
    before = copy.deepcopy(getattr(network, branch).features.state_dict())
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    outputs = network.train()(pixels[:, :, :64, :64])
    torch.stack([values.square().mean() for values in outputs.values()]).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = {
        name.partition(".")[0]
        for name, values in getattr(network, branch).features.state_dict().items()
        if not torch.equal(values, before[name])
    }
    assert moved == {str(unit) for unit in range(3, 27)}


def test_emotion_branch_is_initialized_once(network: TwoTowers) -> None:
    network.select_branch("emotion")
    assert float(network.emotion_share) == pytest.approx(EMOTION_SHARE)
    for name, values in network.emotion.state_dict().items():
        torch.testing.assert_close(values, network.general.state_dict()[name])
    with torch.no_grad():
        network.emotion.heads["emotion"].bias.fill_(7.0)
    network.select_branch("emotion")
    assert network.emotion.heads["emotion"].bias.tolist() == [7.0] * 7
