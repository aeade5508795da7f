import pytest
import torch

from faceattr_udf.detection.prefilter import block_grid
from faceattr_udf.networks.screen import ScreenNet


@pytest.mark.parametrize("side", range(1, 14))
def test_one_output_per_block(side: int) -> None:
    logits = ScreenNet().eval()(torch.zeros((1, side, 30, 4)))
    assert tuple(logits.shape[1:]) == block_grid(side, 30)


def test_fourth_channel_is_ignored() -> None:
    network = ScreenNet().eval()
    pixels = torch.rand((1, 24, 24, 4)) * 255.0
    other = pixels.clone()
    other[..., 3] = 0.0
    torch.testing.assert_close(network(pixels), network(other))
