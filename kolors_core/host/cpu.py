"""What is computed in another way on a CPU: the only file of the pack that names a kind of device.

Four ways, each measured in docs/performance.md: other products (`..networks.products`), channels last in large
convolutions, and the equal tokens of a prompt's padding computed once. All give the values of ComfyUI's own way, within
rounding; only an encoder stored in bfloat16 is rounded to it in its products, where the processor has them.

The doors are `operations` for layers, `linear` and `multiply_packed` for a product, and `prepare` for a UNet. The way
back is ComfyUI's own code: where torch lacks the operator, where shapes do not fit (the message is torch's then), where
a gradient is wanted, under torch.compile, and everywhere with KOLORS_CPU=0 in the environment.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from typing import Any

import comfy.model_management
import comfy.ops
import torch
from comfy.cli_args import args
from comfy.ldm.modules import attention
from torch import Tensor, nn

from ..networks import products
from ..networks.marks import MARK, equal_tokens, is_known, mark
from ..networks.padding import count_equal
from ..networks.quantization import dequantize

ENABLED = os.environ.get("KOLORS_CPU") != "0"
#: Classes of tensors that bring no products of their own.
PLAIN_TENSORS = (Tensor, nn.Parameter)
#: Operations whose layers are torch's with a cast. Others, for fp8 or GGUF, know better what to do.
PLAIN_OPERATIONS = (comfy.ops.disable_weight_init, comfy.ops.manual_cast)
FEW = 512  # rows, up to which a weight that is not float32 is unpacked block by block
MANY = 1 << 20  # values, from which on a weight that is not float32 has products of its own
LARGE = 64 * 64  # latent cells of a convolution's input, from which on its channels go last
KEPT_BLOCK = 64 << 20  # bytes; above 32 MiB C libraries take memory from the system alone, and give it back whole
# The host hands an override the functions inside its decorator.
PYTORCH, SUB_QUADRATIC = inspect.unwrap(attention.attention_pytorch), inspect.unwrap(attention.attention_sub_quad)
OVERRIDE = "optimized_attention_override"  # the host's own option for another attention


def is_cpu(device: torch.device) -> bool:
    """Whether what stands here is for a device: a CPU, where the user has not switched it off."""
    return device.type == "cpu" and ENABLED


def is_at_hand(tensor: Tensor) -> bool:
    """Whether a tensor's values can be read without waiting for a device."""
    return tensor.is_cpu


# ---- layers ---------------------------------------------------------------------------------------------------------


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, native: bool = False) -> Tensor:
    """``nn.functional.linear``: x (..., i), weight (o, i), bias (o,) of any float dtypes -> (..., o) in that of x.

    native: a large weight in bfloat16 may be multiplied as such.
    """
    if bias is not None and bias.dtype != x.dtype:
        bias = bias.to(x.dtype)
    if not _fits(x, weight, bias):
        return nn.functional.linear(x, weight.to(x.dtype), bias)
    if weight.dtype == torch.float32:
        return products.multiply(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    if weight.numel() >= MANY:
        if native and weight.dtype == torch.bfloat16 and products.bfloat16_pays():
            return _finish(products.multiply_bfloat16(rows, weight), x, bias)
        if len(rows) <= FEW:
            return _finish(products.multiply_stored(rows, weight), x, bias)
    return products.multiply(x, weight.to(x.dtype), bias)


def multiply_packed(x: Tensor, packed: Tensor, scale: Tensor, bits: int, bias: Tensor | None = None) -> Tensor:
    """The same with a matrix as `..networks.quantization` packs it, scale (o,)."""
    if _are_plain(x, scale, bias) and packed.is_cpu and x.shape[-1] * bits == packed.shape[1] * 8:
        return _finish(products.multiply_packed(x.reshape(-1, x.shape[-1]), packed, scale, bits), x, bias)
    return linear(x, dequantize(packed, scale, bits, x.dtype), bias)


def _finish(y: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """A product of rows in the shape of x, with its bias."""
    return (y if bias is None else y.add_(bias)).view(*x.shape[:-1], y.shape[-1])


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether our products take these: plain values of shapes that fit."""
    if not _are_plain(x, weight, bias) or weight.ndim != 2 or x.ndim == 0 or not x.shape[-1] == weight.shape[1] > 0:
        return False
    return bias is None or bias.shape == weight.shape[:1]


def _are_plain(x: Tensor, *others: Tensor | None) -> bool:
    """Whether these are floats in RAM, x in float32, and none of them learns."""
    if not (ENABLED and x.is_cpu and x.dtype == torch.float32 and type(x) in PLAIN_TENSORS):
        return False
    for tensor in others:
        if tensor is None:
            continue
        if not (type(tensor) in PLAIN_TENSORS and tensor.is_cpu and tensor.is_floating_point()):
            return False
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (x, *others)):
        return False
    return not torch.compiler.is_compiling()


class CPULinear(nn.Linear):
    """Mixin for the host's Linear: equal tokens of a marked input are computed once, and where it is plain by `linear`.

    What is kept of a marked input is not computed again, on any device. The output for a marked input is marked.
    """

    is_plain: bool
    native: bool

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        if torch.compiler.is_compiling():
            return super().forward(x, *args, **kwargs)
        if (known := getattr(x, MARK, None)) is not None:
            return known.product(self, x, self._multiply)
        return self._multiply(x, *args, **kwargs)

    def _multiply(self, x: Tensor, *args, **kwargs) -> Tensor:
        if not self.is_plain or not is_cpu(x.device):
            return super().forward(x, *args, **kwargs)
        weight = self.weight
        if products.own_is_quick(x, weight) or self.weight_function or self.bias_function or not weight.is_cpu:
            return super().forward(x, *args, **kwargs)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return linear(x, weight, self.bias, self.native)


class CPUConv2d(nn.Conv2d):
    """Mixin for the host's Conv2d: the channels of large float32 inputs are laid last in memory.

    At the widths of Kolors that saves oneDNN 7 to 25 % of a convolution of at least 64 x 64 cells. With fewer, it costs
    more to bring the weights into that order than is saved.
    """

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        is_large = x.dim() == 4 and x.shape[-2:].numel() >= LARGE
        if is_large and is_cpu(x.device) and x.dtype == torch.float32 and not torch.compiler.is_compiling():
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x, *args, **kwargs)


def operations(base: Any, native: bool = False) -> Any:
    """The host's operations, a class or an object of one, with the layers above; Conv2d only where they are plain.

    native: see `linear`.
    """
    base = base if isinstance(base, type) else type(base)
    is_plain = base in PLAIN_OPERATIONS
    options = {"is_plain": is_plain, "native": native}
    layers: dict[str, type] = {"Linear": type("Linear", (CPULinear, base.Linear), options)}
    if is_plain:
        layers["Conv2d"] = type("Conv2d", (CPUConv2d, base.Conv2d), {})
    return type(base.__name__, (base,), layers)


#: For networks whose weights may have another dtype than what they are given.
CASTING = operations(comfy.ops.manual_cast)
NATIVE = operations(comfy.ops.manual_cast, native=True)


# ---- the UNet -------------------------------------------------------------------------------------------------------


def count_padding(device: torch.device, context: Tensor) -> int:
    """How many leading tokens of every prompt (p, tokens, width) are equal; 1 where it does not matter."""
    return int(count_equal(context).min()) if is_cpu(device) else 1


def kept_block(device: torch.device) -> int:
    """Bytes of memory that are taken at once for what a run keeps; 0 where torch itself takes them in blocks."""
    return KEPT_BLOCK if device.type == "cpu" else 0


def prepare(context: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Context and transformer options of a UNet's call, with what a CPU computes in another way."""
    if not is_cpu(context.device):
        return context, dict(options)
    if not torch.compiler.is_compiling() and not is_known(context):
        context = mark(context, count_padding(context.device, context))
    return context, {OVERRIDE: attend, **options}


def attend(function, query: Tensor, key: Tensor, value: Tensor, heads: int, mask=None, **options) -> Tensor:
    """Attention on a CPU; `function` is the host's choice, the other arguments are the host's.

    On a CPU that choice is made for graphics cards without a better one. Torch's own takes as little memory and an
    eighth less time for a step at 512 x 512 pixels, so it stands in unless the user has asked for the other.
    """
    if function is SUB_QUADRATIC and not args.use_quad_cross_attention:
        function = PYTORCH
    count = min(equal_tokens(key), equal_tokens(value))
    if function is PYTORCH and mask is None and count > 1:
        key, value = key[:, count - 1 :], value[:, count - 1 :]
        mask = query.new_zeros(1, key.shape[1])  # (queries, tokens)
        mask[0, 0] = math.log(count)
    return function(query, key, value, heads, mask=mask, **options)
