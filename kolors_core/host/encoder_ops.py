"""The encoder's packed linears under the host's patcher, with LoRAs applied to them."""

from __future__ import annotations

import comfy.ops
import torch
from torch import Tensor, nn

from ..linear import linear
from ..quantization import LARGEST, PackedLinear, dequantize, pack, packed_linear
from .compat import patches_convert
from .quick_ops import CASTING

PATCHES_CONVERT = patches_convert()


class HostPackedLinear(PackedLinear, comfy.ops.CastWeightBiasOp):
    """`PackedLinear` with what the host looks for in a layer that it may leave on another device.

    ``convert_weight`` and ``set_weight`` are called by the patcher to apply a LoRA: values out, values in. The scales
    stay as they are, for the patcher keeps a backup of the weight alone; values beyond the largest are cut.
    """

    comfy_cast_weights = True

    def forward(self, x: Tensor) -> Tensor:
        packed = self.weight.to(x.device)
        for function in self.weight_function if PATCHES_CONVERT else ():
            packed = function(packed)
        weight = dequantize(packed, self.weight_scale, self.bits, x.dtype)
        for function in () if PATCHES_CONVERT else self.weight_function:
            weight = function(weight)
        bias = None if self.bias is None else self.bias.to(x)
        for function in self.bias_function:
            bias = function(bias)
        return linear(x, weight, bias)

    def convert_weight(self, weight: Tensor, inplace: bool = False, **options) -> Tensor:
        """The values (o, i), float32, of a packed weight, of which some hosts hand a float copy."""
        return dequantize(weight.to(torch.int8), self.weight_scale, self.bits)

    def set_weight(
        self, values: Tensor, inplace_update: bool = False, seed=None, return_weight: bool = False, **options
    ):
        """Pack the values (o, i) under the scales that there are."""
        largest = LARGEST[self.bits]
        scale = self.weight_scale.to(values.device, torch.float32)[:, None]
        packed = pack((values.float() / scale).round().clamp(-largest, largest).to(torch.int8), self.bits)
        if return_weight:
            return packed
        if inplace_update:
            self.weight.data.copy_(packed)
        else:
            self.weight = nn.Parameter(packed, requires_grad=False)
        return None


def packed_operations(bits: int):
    """The host's casting operations with packed linears."""
    return type(f"Int{bits}Operations", (CASTING,), {"Linear": packed_linear(bits, HostPackedLinear)})
