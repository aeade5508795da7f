"""A network as it is served: raw pixels in, probabilities out."""

import torch
from torch import nn


class Served(nn.Module):
    """Wraps a trained network for export: fixed order of outputs, softmax."""

    def __init__(self, network: nn.Module, outputs: tuple[str, ...]) -> None:
        """Keeps what is served.

        Args:
            network: RGB (n, 3, size, size), 0-255 -> outputs by name.
            outputs: Names of the outputs in the order they are served; "embedding" goes out as it is.
        """
        super().__init__()
        self.network = network
        self.outputs = outputs

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """RGB (n, size, size, 3), values 0-255 -> probabilities (n, classes) in the order of `outputs`."""
        outputs = self.network(pixels.permute(0, 3, 1, 2).float())
        return tuple(outputs[n] if n == "embedding" else torch.softmax(outputs[n], dim=1) for n in self.outputs)
