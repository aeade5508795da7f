import pytest
import torch
from torch import nn

from faceattr_udf.training.ema import make_ema


def test_ema_forgets_the_initial_weights_quickly() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = make_ema(network, decay=0.5)
    nn.init.ones_(network.weight)
    averages = []
    for _ in range(12):
        ema.update_parameters(network)
        averages.append(float(ema.module.weight.detach()))
    # The n-th update keeps n / (n + 9) of the average, and at most half of it.
    expected, average = [], 0.0
    for n in range(1, 13):
        average += (1.0 - min(0.5, n / (n + 9))) * (1.0 - average)
        expected.append(average)
    assert averages == pytest.approx(expected)


def test_ema_copies_integer_buffers() -> None:
    network = nn.BatchNorm1d(2)
    ema = make_ema(network, decay=0.5)
    network(torch.zeros(4, 2))
    ema.update_parameters(network)
    assert int(ema.module.num_batches_tracked) == 1
    assert not ema.module.training
