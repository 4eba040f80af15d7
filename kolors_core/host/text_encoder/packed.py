"""The encoder's packed linears under the host's patcher, with LoRAs applied to them.

A LoRA is added to the values whenever they are unpacked, and never rounded into the packed weight: in 4 bits that would
double the error of the encoder. Where the patcher has applied it to the weight all the same, as it does without a lack
of memory, the stored weight is put back and the LoRA is kept beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.ops
import torch
from torch import Tensor, nn

from ...networks.quantization import PackedLinear, dequantize, packed_linear, requantize
from .. import compat
from ..cpu import CASTING, linear


@dataclass(frozen=True)
class KeptPatches:
    """The patches of a weight that the patcher has applied, for as long as it has a backup of what was there before."""

    key: str
    patches: Mapping[str, list]
    backup: Mapping[str, object]

    def __call__(self, values: Tensor) -> Tensor:
        if self.key not in self.backup:
            return values
        return comfy.lora.calculate_weight(self.patches[self.key], values, self.key, intermediate_dtype=values.dtype)


class HostPackedLinear(PackedLinear, comfy.ops.CastWeightBiasOp):
    """`PackedLinear` with what the host looks for in a layer that it may leave on another device.

    ``convert_weight`` and ``set_weight`` are called by the patcher to apply a LoRA: values out, values in. The scales
    stay as they are, for the patcher keeps a backup of the weight alone; values beyond the largest are cut.
    """

    comfy_cast_weights = True
    weight_lowvram_function: Callable[[Tensor], Tensor] | None = None  # where a patch waits under dynamic VRAM
    kept: KeptPatches | None = None

    def forward(self, x: Tensor) -> Tensor:
        with self._without_patches() as patches, compat.cast(self, torch.int8, x.dtype, x.device) as (packed, bias):
            weight = dequantize(packed, self.weight_scale, self.bits, x.dtype)
            for patch in patches:
                weight = compat.patch_values(patch, weight)
            return linear(x, weight, bias)

    @contextmanager
    def _without_patches(self) -> Iterator[list[Callable[[Tensor], Tensor]]]:
        """The patches of the values. Those that wait are hidden from the host's cast, which would patch integers."""
        dynamic, functions = self.weight_lowvram_function, self.weight_function
        self.weight_lowvram_function, self.weight_function = None, []
        try:
            yield [function for function in (self.kept, dynamic, *functions) if function is not None]
        finally:
            self.weight_lowvram_function, self.weight_function = dynamic, functions

    def convert_weight(self, weight: Tensor, inplace: bool = False, **options) -> Tensor:
        """The values (o, i), float32, of a packed weight, of which some hosts hand a float copy."""
        return dequantize(weight.to(torch.int8), self.weight_scale, self.bits)

    def set_weight(
        self, values: Tensor, inplace_update: bool = False, seed=None, return_weight: bool = False, **options
    ):
        """Pack the values (o, i) under the scales that there are, rounded by the host's `seed`."""
        packed = requantize(values, self.weight_scale, self.bits, seed)
        if return_weight:
            return packed
        if inplace_update:
            self.weight.data.copy_(packed)
        else:
            self.weight = nn.Parameter(packed, requires_grad=False)
        return None

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        """The weight with the patches that the patcher has applied to it, for saving."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.kept is not None and self.kept.key in self.kept.backup:
            values = self.kept(self.convert_weight(self.weight))
            seed = zlib.crc32(self.kept.key.encode())
            destination[f"{prefix}weight"] = self.set_weight(values, seed=seed, return_weight=True)


def keep_patches(patcher, *options) -> None:
    """Put back the packed weights that a patcher has just applied patches to; called by it after each loading."""
    for name, layer in patcher.model.named_modules():
        if isinstance(layer, HostPackedLinear):
            key = f"{name}.weight"
            layer.kept = None
            if key in patcher.patches and key in patcher.backup:
                layer.kept = KeptPatches(key, patcher.patches, patcher.backup)
                stored = patcher.backup[key].weight.to(layer.weight.device)
                layer.weight = nn.Parameter(stored, requires_grad=False)


def packed_operations(bits: int) -> Any:
    """The host's casting operations with packed linears."""
    return type(f"Int{bits}Operations", (CASTING,), {"Linear": packed_linear(bits, HostPackedLinear)})
