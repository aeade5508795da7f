"""A network as it is served: raw pixels in, probabilities out."""

import torch
from torch import nn


class Served(nn.Module):
    """Wraps a trained network for export: fixed order of outputs, softmax, perhaps averaged over the mirrored face."""

    def __init__(self, network: nn.Module, outputs: tuple[str, ...], *, mirrored: bool = False) -> None:
        """Keeps what is served.

        Args:
            network: RGB (n, 3, size, size), 0-255 -> outputs by name.
            outputs: Names of the outputs in the order they are served; "embedding" goes out as it is.
            mirrored: Whether probabilities are averaged over the face and its mirror image.
        """
        super().__init__()
        self.network = network
        self.outputs = outputs
        self.mirrored = mirrored

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """RGB (n, size, size, 3), values 0-255 -> probabilities (n, classes) in the order of `outputs`."""
        upright = pixels.permute(0, 3, 1, 2).float()
        results = self._probabilities(upright)
        if self.mirrored:
            others = self._probabilities(upright.flip(3))
            results = [
                result if name == "embedding" else (result + other) / 2
                for name, result, other in zip(self.outputs, results, others, strict=True)
            ]
        return tuple(results)

    def _probabilities(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        outputs = self.network(pixels)
        return [outputs[n] if n == "embedding" else torch.softmax(outputs[n], dim=1) for n in self.outputs]
