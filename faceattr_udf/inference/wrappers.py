"""A network as it is served: raw pixels in, probabilities out."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from faceattr_udf.networks.towers import TwoTowers


class _Probabilities(nn.Module):
    """Wraps a trained network: fixed order of outputs, softmax."""

    def __init__(
        self, network: nn.Module, outputs: tuple[str, ...], temperatures: Mapping[str, float] | None = None
    ) -> None:
        """Keeps what is served.

        Args:
            network: Gives outputs by name.
            outputs: Names of the outputs in the order they are served; "embedding" goes out as it is.
            temperatures: Output -> what its logits are divided by; 1 where it is not named.
        """
        super().__init__()
        self.network = network
        self.outputs = outputs
        self.temperatures = dict(temperatures or {})

    def _in_order(self, outputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(outputs[n] if n == "embedding" else self._probabilities(n, outputs[n]) for n in self.outputs)

    def _probabilities(self, name: str, logits: torch.Tensor) -> torch.Tensor:
        temperature = self.temperatures.get(name)
        # Graphs are exported without temperatures and must not get a division by 1.
        return torch.softmax(logits if temperature is None else logits.float() / temperature, dim=1)


class Served(_Probabilities):
    """Of a network RGB (n, 3, size, size), 0-255 -> outputs."""

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """RGB (n, size, size, 3), values 0-255 -> probabilities (n, classes) in the order of `outputs`."""
        return self._in_order(self.network(pixels.permute(0, 3, 1, 2).float()))


class ServedTowers(_Probabilities):
    """Of two towers."""

    def forward(self, pairs: torch.Tensor, small: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What `TwoTowers.decide` takes -> probabilities (n, classes) in the order of `outputs`."""
        return self._in_order(cast("TwoTowers", self.network).decide(pairs, small))
