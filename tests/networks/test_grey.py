import torch

from faceattr_udf.networks.grey import HEADS, SeparateGrey


def test_networks_share_no_parameters() -> None:
    network = SeparateGrey().eval()
    outputs = network(torch.rand(3, 3, 64, 64) * 255)
    assert {name: value.shape for name, value in outputs.items()} == {n: (3, size) for n, size in HEADS.items()}
    outputs["age"].sum().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in network.named_parameters() if name.startswith("networks.age.")}


def test_output_depends_only_on_luma() -> None:
    network = SeparateGrey().eval()
    pixels = torch.rand(2, 3, 64, 64) * 255
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    with torch.inference_mode():
        for color, gray in zip(network(pixels).values(), network(luma.expand(-1, 3, -1, -1)).values(), strict=True):
            torch.testing.assert_close(color, gray, atol=1e-3, rtol=1e-3)
