"""Half precision while networks learn."""

from collections.abc import Mapping

import torch


def bfloat16(device: torch.device, *, wanted: bool) -> torch.autocast:
    """A context in which convolutions and products are in bfloat16, where the processor multiplies it.

    Without instructions for it a step takes ten times as long as in float32.

    Args:
        device: Where they are computed.
        wanted: False makes a context that changes nothing.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and (device.type == "cuda" or _on_this_cpu()))


def _on_this_cpu() -> bool:
    able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # old versions do not tell
    # x86-64's two ways, and that of 64-bit Arm.
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
