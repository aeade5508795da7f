from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from faceattr_udf.errors import WeightsError
from faceattr_udf.training.interpolation import interpolate


def _network(value: float, outputs: int = 2) -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Linear(1, outputs))
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)
    return network


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    save_file(_network(0.0, outputs=3).state_dict(), tmp_path / "earlier.safetensors")
    return tmp_path / "earlier.safetensors"


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_and_statistics_are_interpolated(earlier: Path, share: float) -> None:
    network = _network(4.0)
    interpolate(network, earlier, share)
    state = network.state_dict()
    assert float(state["0.weight"]) == float(state["1.running_mean"]) == 4.0 * share
    assert int(state["1.num_batches_tracked"]) == 4  # a count, not a weight


def test_layer_of_another_shape_keeps_its_weights(earlier: Path) -> None:
    network = _network(4.0)
    interpolate(network, earlier, 0.5)
    assert network.state_dict()["2.weight"].tolist() == [[4.0], [4.0]]
    # The bias of another shape, too.
    assert network.state_dict()["2.bias"].tolist() == [4.0, 4.0]


def test_only_tensors_with_the_prefix_change(earlier: Path) -> None:
    network = _network(4.0)
    interpolate(network, earlier, 0.5, prefix="1.")
    assert float(network.state_dict()["0.weight"]) == 4.0
    assert float(network.state_dict()["1.weight"]) == 2.0


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"no 0\.bias that fits"):
        interpolate(_network(1.0), tmp_path / "other.safetensors", 0.5)
