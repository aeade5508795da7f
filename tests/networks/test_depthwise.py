import pytest
import torch
from torch import nn

from faceattr_udf.networks.depthwise import strided_depthwise


@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 9), (8, 8), (15, 8)])
def test_output_and_gradients_equal_conv2d(height: int, width: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, height, width, dtype=torch.float64), torch.randn(6, 1, 3, 3, dtype=torch.float64)
    results = []
    for convolve in (strided_depthwise, lambda a, b: nn.functional.conv2d(a, b, stride=2, groups=6)):
        a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = convolve(a, b)
        (y * torch.arange(y.numel(), dtype=torch.float64).view(y.shape)).sum().backward()
        results.append((y, a.grad, b.grad))
    for actual, expected in zip(*results, strict=True):
        assert actual is not None
        torch.testing.assert_close(actual, expected)


def test_autocast_dtype_is_used() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = strided_depthwise(torch.randn(1, 4, 5, 5), torch.randn(4, 1, 3, 3))
    assert y.dtype == torch.bfloat16
