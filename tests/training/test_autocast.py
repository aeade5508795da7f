import pytest
import torch

from faceattr_udf.training.autocast import bfloat16_autocast

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "enabled", "dtype"),
    [
        ({"avx512_bf16": True}, True, torch.bfloat16),
        ({"bf16": True}, True, torch.bfloat16),
        ({"avx512_bf16": True}, False, torch.float32),
        ({"avx2": True, "avx512_bf16": False}, True, torch.float32),
    ],
)
def test_bfloat16_needs_a_cpu_that_supports_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], enabled: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with bfloat16_autocast(CPU, enabled=enabled):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
