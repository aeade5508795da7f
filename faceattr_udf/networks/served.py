"""A network as it is served: raw pixels in, calibrated probabilities out."""

from collections.abc import Mapping

import torch
from torch import nn


class Served(nn.Module):
    """Wraps a trained network for export: fixed order of outputs, softmax with its temperatures."""

    def __init__(self, network: nn.Module, outputs: tuple[str, ...], temperatures: Mapping[str, float]) -> None:
        """Keeps what is served.

        Args:
            network: RGB (n, 3, size, size), 0-255 -> outputs by name.
            outputs: Names of the outputs in the order they are served; "embedding" goes out as it is.
            temperatures: Attribute -> what its logits are divided by; 1 where it is not named.
        """
        super().__init__()
        self.network = network
        self.outputs = outputs
        self.temperatures = dict(temperatures)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """RGB (n, size, size, 3), values 0-255 -> probabilities (n, classes) in the order of `outputs`."""
        outputs = self.network(pixels.permute(0, 3, 1, 2).float())
        return tuple(
            outputs[name]
            if name == "embedding"
            else torch.softmax(outputs[name] / self.temperatures.get(name, 1.0), dim=1)
            for name in self.outputs
        )
