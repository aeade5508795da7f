"""bfloat16 autocast for training."""

from collections.abc import Mapping

import torch


def bfloat16_autocast(device: torch.device, *, enabled: bool) -> torch.autocast:
    """Returns a context that runs convolutions and matrix products in bfloat16 where the hardware supports it.

    Elsewhere the context does nothing: emulated bfloat16 takes ten times as long as float32.

    Args:
        device: Where the network runs.
        enabled: False returns a context that does nothing.
    """
    supported = device.type == "cuda" or _cpu_supports_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and supported)


def _cpu_supports_bfloat16() -> bool:
    # Older versions of torch lack this function.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    # Two extensions of x86-64, and that of 64-bit Arm.
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
