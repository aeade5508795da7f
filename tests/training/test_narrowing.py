import numpy as np
import pytest
import torch
from torch import nn

from faceattr_udf.networks.mobilenet import WIDTHS, MobileNetV1
from faceattr_udf.training.narrowing import narrow

SIDE = 64
NARROWER = (48, 96, *WIDTHS[2:11], 768, 1024)


@pytest.fixture
def wide() -> MobileNetV1:
    torch.manual_seed(0)
    network = MobileNetV1().train()
    with torch.no_grad():
        for _ in range(20):  # statistics without which a random network gives nothing
            network(_pixels(_crops(8)))
    return network.eval()


def _crops(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def _pixels(crops: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float()


def _silence(network: MobileNetV1, block: int, channels: list[int]) -> None:
    """Makes channels of a block the same number everywhere, past the next depthwise layer too."""
    norm, depthwise = network.features[2 * block][1], network.features[2 * block + 1][0]
    norm.weight[channels], norm.bias[channels] = 0.0, 2.0
    depthwise.weight[channels] = 0.0
    depthwise.weight[channels, :, 1, 1] = 1.0


@torch.no_grad()
def test_equal_widths_change_nothing(wide: MobileNetV1) -> None:
    same = MobileNetV1()
    narrow(wide, same, _crops(4))
    for name, values in same.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(values, wide.state_dict()[name])


@torch.no_grad()
def test_channels_that_say_nothing_are_lost_without_loss(wide: MobileNetV1) -> None:
    random = np.random.default_rng(1)
    for block, (before, after) in enumerate(zip(WIDTHS, NARROWER, strict=True), start=1):
        if after < before:
            _silence(wide, block, random.permutation(before)[: before - after].tolist())
    narrower = MobileNetV1(widths=NARROWER).eval()
    narrow(wide, narrower, _crops(8))
    pixels = _pixels(_crops(8))
    for name, expected in wide(pixels).items():
        assert expected.std() > 0.01  # the network answers
        torch.testing.assert_close(narrower(pixels)[name], expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_what_other_channels_can_say_is_not_lost(wide: MobileNetV1) -> None:
    twins = torch.arange(48, 64)
    for layer in (wide.features[2], wide.features[3]):  # those of block 1, and what brings them to block 2
        for values in [*layer.parameters(), *(b for b in layer.buffers() if b.ndim)]:
            values[twins] = values[: len(twins)].clone()
    read = wide.features[4][0].weight
    read[:, twins] *= 0.1  # what matters least, and yet something
    narrower = MobileNetV1(widths=(48, *WIDTHS[1:])).eval()
    narrow(wide, narrower, _crops(8))
    pixels = _pixels(_crops(8))
    expected = wide(pixels)
    read[:, twins] = 0.0
    for name, without in wide(pixels).items():
        wrong = (narrower(pixels)[name] - expected[name]).abs().mean()
        assert wrong < 0.1 * (without - expected[name]).abs().mean()


@torch.no_grad()
def test_what_channels_say_on_average_stays(wide: MobileNetV1) -> None:
    narrower = MobileNetV1(widths=(48, *WIDTHS[1:])).eval()
    narrow(wide, narrower, _crops(8))
    pixels = _pixels(_crops(8))

    def mean(network: MobileNetV1) -> torch.Tensor:
        assert isinstance(network.mean_pixel, torch.Tensor)
        given = network.features[:4](pixels - network.mean_pixel)
        second = network.features[4]
        assert isinstance(second, nn.Sequential)
        return second[1](second[0](given)).mean(dim=(0, 2, 3))

    torch.testing.assert_close(mean(narrower), mean(wide), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("widths", "named"),
    [
        ((*WIDTHS[:4], 300, *WIDTHS[5:]), "block 5 has 256 channels, fewer than the 300"),
        ((*WIDTHS[:12], 900), "the last block has 1024 channels, which stay"),
    ],
)
def test_widths_that_cannot_be_are_named(wide: MobileNetV1, widths: tuple[int, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        narrow(wide, MobileNetV1(widths=widths), _crops(1))
