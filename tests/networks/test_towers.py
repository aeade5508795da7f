"""The default model's two towers: what is served of each, and which one learns."""

import numpy as np
import pytest
import torch

from faceattr_udf.attributes.preprocess import EMOTION_SIZE, GREY, views
from faceattr_udf.networks.mobilenet import MEAN_PIXEL
from faceattr_udf.networks.towers import EMOTION_SHARE, INPUT_SIZE, TwoTowers
from faceattr_udf.weights import load_record

TASKS = ["age", "gender", "ethnicity", "emotion"]
# Bytes are summed before the mean pixel is taken away, in float32: some 1e-5 of rounding.
ROUNDING = {"rtol": 1e-4, "atol": 5e-5}


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    drawn = np.random.default_rng(0).integers(0, 256, (3, 3, INPUT_SIZE, INPUT_SIZE))
    return torch.from_numpy(drawn).float()


@pytest.fixture
@torch.no_grad()
def towers(pixels: torch.Tensor) -> TwoTowers:
    torch.manual_seed(0)
    towers = TwoTowers().train()
    for tower in (towers.general, towers.emotion):
        # Then what is served sees the same beyond a picture's edge as what learns, and both are equal.
        tower.mean_pixel.fill_(GREY)
        # Without statistics of its own layers an untrained network answers every picture alike.
        for layer in tower.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        tower(pixels)
    return towers.eval()


def _mean(towers: TwoTowers, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    one, other = towers.general(pixels), towers.general(pixels.flip(3))
    return {name: (torch.softmax(one[name], 1) + torch.softmax(other[name], 1)) / 2 for name in one}


@torch.no_grad()
def test_untrained_emotion_branch_contributes_nothing(towers: TwoTowers, pixels: torch.Tensor) -> None:
    served = towers(pixels)
    assert list(served) == TASKS
    for name, expected in _mean(towers, pixels).items():
        torch.testing.assert_close(torch.softmax(served[name], 1), expected)
        torch.testing.assert_close(served[name].exp(), expected)


@torch.no_grad()
def test_emotion_alone_is_what_both_say(towers: TwoTowers, pixels: torch.Tensor) -> None:
    towers.emotion_share.fill_(EMOTION_SHARE)
    served, expected = towers(pixels), _mean(towers, pixels)
    small = torch.nn.functional.interpolate(pixels, size=(EMOTION_SIZE, EMOTION_SIZE), mode="bilinear")
    second = torch.softmax(towers.emotion(small)["emotion"], 1)
    expected["emotion"] = (1 - EMOTION_SHARE) * expected["emotion"] + EMOTION_SHARE * second
    for name in TASKS:
        torch.testing.assert_close(served[name].exp(), expected[name], **ROUNDING)


@torch.no_grad()
def test_bytes_are_judged_as_the_numbers_that_they_are(towers: TwoTowers, pixels: torch.Tensor) -> None:
    content = pixels.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    pairs, small = map(torch.from_numpy, views(load_record("attributes_default"), content))
    for served, expected in zip(
        towers.general.judge_bytes(pairs).values(), towers.general(pixels).values(), strict=True
    ):
        torch.testing.assert_close(served[0::2], expected, **ROUNDING)
    towers.emotion_share.fill_(1.0)
    of_bytes, of_numbers = towers.decide(pairs, small), towers(pixels)
    for name in TASKS:
        # Bytes of a face that was shrunk are rounded.
        rounding = {"rtol": 0.0, "atol": 0.01} if name == "emotion" else ROUNDING
        torch.testing.assert_close(of_bytes[name].exp(), of_numbers[name].exp(), **rounding)


def test_what_lies_beyond_the_edge_is_nearly_the_mean_pixel() -> None:
    assert max(abs(GREY - value) for value in MEAN_PIXEL) < 12


@torch.no_grad()
def test_no_faces_give_no_logits(towers: TwoTowers, pixels: torch.Tensor) -> None:
    assert {name: tuple(values.shape) for name, values in towers(pixels[:0]).items()} == {
        "age": (0, 101), "gender": (0, 2), "ethnicity": (0, 5), "emotion": (0, 7),
    }  # fmt: skip


def test_only_the_tower_that_learns_has_gradients(towers: TwoTowers, pixels: torch.Tensor) -> None:
    for tower, tasks in (("general", TASKS), ("emotion", ["emotion"])):
        towers.zero_grad(set_to_none=True)
        towers.learn(tower)  # type: ignore[arg-type]  # a literal, of a loop
        outputs = towers.train()(pixels[:, :, :64, :64])
        assert list(outputs) == tasks
        torch.stack([values.sum() for values in outputs.values()]).sum().backward()  # type: ignore[no-untyped-call]
        moved = {name.partition(".")[0] for name, values in towers.named_parameters() if values.grad is not None}
        assert moved == {tower}


def test_the_emotion_tower_starts_from_the_general_one_once(towers: TwoTowers) -> None:
    towers.learn("emotion")
    assert float(towers.emotion_share) == pytest.approx(EMOTION_SHARE)
    for name, values in towers.emotion.state_dict().items():
        torch.testing.assert_close(values, towers.general.state_dict()[name])
    with torch.no_grad():
        towers.emotion.heads["emotion"].bias.fill_(7.0)
    towers.learn("emotion")
    assert towers.emotion.heads["emotion"].bias.tolist() == [7.0] * 7
