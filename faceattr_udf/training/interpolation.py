"""Interpolation of trained weights with earlier ones."""

from pathlib import Path

import torch
from torch import nn

from faceattr_udf.training.pretrained import read_fitting_tensors


@torch.no_grad()
def interpolate(network: nn.Module, weights: Path, share: float, prefix: str = "") -> None:
    """Replaces weights by `share` of themselves and the rest of earlier weights, in place.

    Fine-tuned weights gain on the new sources and lose on the old ones; weights on the line between both keep most of
    both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903).

    Args:
        network: The fine-tuned network.
        weights: Safetensors of the network that the fine-tuning started from.
        share: Share of the fine-tuned weights, between 0 and 1.
        prefix: Only tensors whose names begin with it are interpolated; those without an earlier tensor of the same
            shape, like a layer for other classes, stay as they are.

    Raises:
        WeightsError: The file is unreadable, or no tensor fits.
    """
    own = network.state_dict()
    for name, earlier in read_fitting_tensors(network, weights).items():
        if name.startswith(prefix) and own[name].is_floating_point():
            own[name].lerp_(earlier.to(own[name]), 1.0 - share)
