"""8-bit and 4-bit matrices: the published definition, bit by bit."""

import pytest
import torch
from comfyui_kolors.kolors_core.networks import quantization
from reference import relative_error
from torch.nn.functional import linear

WEIGHT = torch.randn(37, 64, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.01, 3, 37)[:, None]


def test_eight_bits_are_the_weight_times_its_rows_scale():
    packed = torch.tensor([[1, -128, 127], [0, -1, 5]], dtype=torch.int8)
    scale = torch.tensor([0.5, 2.0])
    expected = torch.tensor([[0.5, -64.0, 63.5], [0.0, -2.0, 10.0]])
    assert torch.equal(quantization.dequantize(packed, scale, 8), expected)


def test_four_bits_hold_the_first_value_in_the_high_half_signed():
    """Every byte there is."""
    packed = torch.arange(-128, 128, dtype=torch.int16).to(torch.int8)[None]
    signed = [[(byte >> 4) - 16 * (byte >> 7), (byte & 15) - 16 * ((byte >> 3) & 1)] for byte in
              (value % 256 for value in range(-128, 128))]  # fmt: skip
    found = quantization.dequantize(packed, torch.tensor([0.25]), 4)
    assert torch.equal(found, torch.tensor(signed).float().flatten()[None] * 0.25)


@pytest.mark.parametrize("bits", [8, 4])
def test_packing_and_unpacking_give_the_integers_back(bits):
    largest = quantization.LARGEST[bits]
    integers = torch.randint(-largest, largest + 1, (5, 12), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    packed = quantization.pack(integers, bits)
    assert packed.shape == (5, 12 * bits // 8) and packed.dtype == torch.int8
    assert torch.equal(quantization.dequantize(packed, torch.ones(5), bits), integers.float())


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.15)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_quantizing_is_symmetric_and_near(bits, error, dtype):
    weight = WEIGHT.to(dtype)
    packed, scale = quantization.quantize(weight, bits)
    found = quantization.dequantize(packed, scale, bits)
    assert torch.allclose(scale, weight.float().abs().amax(1) / quantization.LARGEST[bits])
    assert relative_error(found, weight.float()) <= error
    assert ((found - weight.float()).abs() <= scale[:, None] * 0.5001).all()
    again, same = quantization.quantize(found, bits)
    assert torch.equal(again, packed) and torch.allclose(same, scale)


def test_chunks_do_not_show(monkeypatch):
    whole = quantization.quantize(WEIGHT, 4)
    monkeypatch.setattr(quantization, "CHUNK", 200)
    monkeypatch.setattr(quantization, "PART", 700)
    assert all(torch.equal(part, other) for part, other in zip(quantization.quantize(WEIGHT, 4), whole))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_row_of_zeros_stays_zero(bits):
    """Of a scale of 1, for 0 / 0 is no number, and what an integer makes of that is the processor's choice."""
    packed, scale = quantization.quantize(torch.cat([torch.zeros(1, 4), torch.ones(1, 4)]), bits)
    assert scale.tolist() == pytest.approx([1.0, 1 / quantization.LARGEST[bits]])
    assert not packed[0].any()
    assert torch.equal(quantization.dequantize(packed, scale, bits)[0], torch.zeros(4))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_computes_with_its_values(bits, bias):
    layer = quantization.packed_linear(bits)(64, 37, bias=bias)
    packed, scale = quantization.quantize(WEIGHT, bits)
    state_dict = {"weight": packed, "weight_scale": scale} | ({"bias": torch.ones(37)} if bias else {})
    layer.load_state_dict(state_dict)
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(2))
    expected = linear(x, quantization.dequantize(packed, scale, bits), state_dict.get("bias"))
    assert torch.equal(layer(x), expected)
    assert layer.state_dict()["weight"].numel() == 37 * 64 * bits // 8
