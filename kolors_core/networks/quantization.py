"""Matrices in 8 or 4 bits, as the published ChatGLM3 files have them, in plain torch on any device.

A value is ``weight * weight_scale[:, None]``: signed integers, one scale per row, symmetric (largest 127 or 7). In 4
bits, two values share a byte, the first in its high half. Source: the 8-bit and 4-bit files of
Kijai/ChatGLM3-safetensors, which follow THUDM's ``quantization.py``.

Axes: o out features, i in features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.types import Device

BITS = {"int8": 8, "int4": 4}
LARGEST = {8: 127, 4: 7}
PART = 1 << 22  # values that are read at a time, and
CHUNK = 1 << 20  # converted at a time, so that the memory beside the result stays small


def quantize(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """A matrix (o, i) of any float dtype as packed int8 (o, i) or (o, i / 2), and its scales (o,) in float32."""
    return quantize_parts(weight.shape, bits, lambda rows: weight[rows])


def quantize_parts(shape: Sequence[int], bits: int, read: Callable[[slice], Tensor]) -> tuple[Tensor, Tensor]:
    """The same of a matrix that is read some rows at a time."""
    outputs, inputs = shape
    packed = torch.empty(outputs, inputs * bits // 8, dtype=torch.int8)
    scales = torch.empty(outputs)
    step = max(1, PART // inputs)
    room = torch.empty(2, min(max(1, CHUNK // inputs), outputs), inputs)
    for start in range(0, outputs, step):
        rows = slice(start, min(start + step, outputs))
        _quantize_into(read(rows), bits, packed[rows], scales[rows], *room)
    return packed, scales


def _quantize_into(
    weight: Tensor, bits: int, packed: Tensor, scales: Tensor, values: Tensor, magnitudes: Tensor
) -> None:
    """`packed` and `scales` of a weight; values and magnitudes: room for some of its rows, used again and again."""
    for part, packed_part, scale in zip(*(torch.split(tensor, len(values)) for tensor in (weight, packed, scales))):
        chunk = values[: len(part)].copy_(part)
        torch.amax(torch.abs(chunk, out=magnitudes[: len(part)]), dim=1, out=scale)
        scale.div_(LARGEST[bits]).masked_fill_(scale == 0, 1)  # a row of zeros
        chunk.div_(scale[:, None]).round_().clamp_(-LARGEST[bits], LARGEST[bits])
        packed_part.copy_(chunk if bits == 8 else pack(chunk.to(torch.int8), bits))


def dequantize(packed: Tensor, scale: Tensor, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values (o, i) in `dtype`, on the device of `packed`. Takes at most a byte a value beside them."""
    if bits == 8:
        values = packed.to(dtype)
    else:
        values = torch.empty(len(packed), 2 * packed.shape[1], dtype=dtype, device=packed.device)
        high, low = values[:, ::2], values[:, 1::2]  # views (o, i / 2) each
        high.copy_(packed >> 4)
        low.copy_((packed << 4) >> 4)
    return values.mul_(scale.to(packed.device, dtype)[:, None])


def requantize(values: Tensor, scale: Tensor, bits: int, seed: int | None = None) -> Tensor:
    """Values (o, i) packed under the scales (o,) that there are; those beyond the largest are cut.

    seed: rounds up or down by chance, so that the mean is kept and changes of less than a step are not lost; None
    rounds to the nearest.
    """
    steps = values.float() / scale.to(values.device, torch.float32)[:, None]
    if seed is None:
        steps.round_()
    else:
        generator = torch.Generator(steps.device).manual_seed(seed)
        steps.add_(torch.rand(steps.shape, generator=generator, device=steps.device)).floor_()
    return pack(steps.clamp_(-LARGEST[bits], LARGEST[bits]).to(torch.int8), bits)


def pack(integers: Tensor, bits: int) -> Tensor:
    """Integers (o, i) int8 as they are stored."""
    if bits == 8:
        return integers
    high, low = integers[:, ::2], integers[:, 1::2]  # (o, i / 2) each
    return (high << 4) | (low & 0x0F)


class PackedLinear(nn.Module):
    """A linear layer whose matrix stays packed, and is unpacked when it is needed.

    Takes the place of ``nn.Linear`` in a model's operations; `bits` is set by a subclass (see `packed_linear`).
    """

    bits: int

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: Device = None,
    ):
        super().__init__()
        width = in_features * self.bits // 8
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, width, dtype=torch.int8, device=device), False)
        self.weight_scale = nn.Parameter(torch.empty(out_features, dtype=torch.float32, device=device), False)
        self.bias = nn.Parameter(torch.empty(out_features, device=device), False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = dequantize(self.weight.to(x.device), self.weight_scale, self.bits, x.dtype)
        return nn.functional.linear(x, weight, None if self.bias is None else self.bias.to(x))


def packed_linear(bits: int, base: type[PackedLinear] = PackedLinear) -> type[PackedLinear]:
    """`base` for a number of bits."""
    return type(f"Int{bits}Linear", (base,), {"bits": bits})
