"""The encoder's packed linears under the host's patcher, with LoRAs applied to them.

A LoRA is multiplied beside the packed weight, and any other patch is added to the values whenever they are unpacked.
None is ever rounded into the packed weight: in 4 bits that would double the error of the encoder. Where the patcher has
applied it to the weight all the same, as it does without a lack of memory, the stored weight is put back and the patch
is kept beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor, nn

from ...networks.quantization import PackedLinear, dequantize, packed_linear, requantize
from .. import compat
from ..cpu import CASTING, linear, multiply_packed


@dataclass(frozen=True)
class KeptPatches:
    """The patches of a weight that the patcher has applied, for as long as it has a backup of what was there before."""

    key: str
    patches: Mapping[str, list]
    backup: Mapping[str, object]

    @property
    def is_applied(self) -> bool:
        return self.key in self.backup

    def __call__(self, values: Tensor) -> Tensor:
        if not self.is_applied:
            return values
        return comfy.lora.calculate_weight(self.patches[self.key], values, self.key, intermediate_dtype=values.dtype)


def find_factors(
    functions: list[Callable[[Tensor], Tensor]], outputs: int, inputs: int
) -> list[tuple[Tensor, Tensor, float]] | None:
    """What the patches of a weight (o, i) add to it, as pairs of factors (o, rank) and (rank, i) and their strength.

    None where one of them is more than a plain LoRA, and has to be given the values.
    """
    factors = []
    for function in functions:
        if isinstance(function, KeptPatches) and not function.is_applied:
            continue
        if not isinstance(function, (KeptPatches, comfy.model_patcher.LowVramPatch)):
            return None
        for strength, patch, model_strength, offset, change, *_ in function.patches[function.key]:
            if type(patch) is not LoRAAdapter or model_strength != 1.0 or offset is not None or change is not None:
                return None
            up, down, alpha, *others = patch.weights
            if any(other is not None for other in others) or not up.ndim == down.ndim == 2:
                return None
            if (up.shape, down.shape) != ((outputs, len(down)), (len(down), inputs)):
                return None  # the host says so
            factors.append((up, down, strength if alpha is None else strength * alpha / len(down)))
    return factors


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
            comfy.model_management.throw_exception_if_processing_interrupted()
            factors = find_factors(patches, self.out_features, self.in_features)
            if factors is None:
                weight = dequantize(packed, self.weight_scale, self.bits, x.dtype)
                for patch in patches:
                    weight = compat.patch_values(patch, weight)
                return linear(x, weight, bias)
            y = multiply_packed(x, packed, self.weight_scale, self.bits, bias)
            for up, down, strength in factors:
                y += strength * linear(linear(x, down.to(x)), up.to(x))
            return y

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
        if self.kept is not None and self.kept.is_applied:
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
