import pytest
import torch

from faceattr_udf.training.autocast import bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "wanted", "dtype"),
    [
        ({"avx512_bf16": True}, True, torch.bfloat16),
        ({"bf16": True}, True, torch.bfloat16),
        ({"avx512_bf16": True}, False, torch.float32),
        ({"avx2": True, "avx512_bf16": False}, True, torch.float32),
    ],
)
def test_products_are_in_bfloat16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], wanted: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    with bfloat16(CPU, wanted=wanted):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
