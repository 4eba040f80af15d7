"""The linear layer for few rows: the same numbers as torch's."""

import pytest
import torch
from comfyui_kolors.kolors_core.linear import FEW_ROWS, linear
from reference import relative_error

WEIGHT = torch.randn(48, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rows", [1, 4, 5, 23, 64, 65])
@pytest.mark.parametrize("bias", [None, torch.arange(48.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_equals_torchs(rows, bias, dtype):
    x = torch.randn(1, rows, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    weight, bias = WEIGHT.to(dtype), bias if bias is None else bias.to(dtype)
    found = linear(x, weight, bias)
    assert found.shape == (1, rows, 48) and found.dtype == dtype
    assert relative_error(found, torch.nn.functional.linear(x, weight, bias)) <= 1e-6
    assert found.is_contiguous() or rows in FEW_ROWS
