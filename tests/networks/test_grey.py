import torch

from faceattr_udf.networks.grey import HEADS, SeparateGrey


def test_every_attribute_has_a_network_that_shares_nothing() -> None:
    network = SeparateGrey().eval()
    outputs = network(torch.rand(3, 3, 64, 64) * 255)
    assert {name: value.shape for name, value in outputs.items()} == {n: (3, size) for n, size in HEADS.items()}
    outputs["age"].sum().backward()
    touched = {name for name, p in network.named_parameters() if p.grad is not None}
    assert touched == {name for name, _ in network.named_parameters() if name.startswith("networks.age.")}


def test_colour_makes_no_difference_beyond_its_luma() -> None:
    network = SeparateGrey().eval()
    colours = torch.rand(2, 3, 64, 64) * 255
    luma = (colours * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    with torch.inference_mode():
        for ours, grey in zip(network(colours).values(), network(luma.expand(-1, 3, -1, -1)).values(), strict=True):
            torch.testing.assert_close(ours, grey, atol=1e-3, rtol=1e-3)
