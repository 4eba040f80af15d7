"""What is computed in another way on a CPU: the only file of the pack that names a kind of device.

Three ways, each measured in docs/performance.md: oneDNN for float32 products, channels last in large convolutions, and
the equal tokens of a prompt's padding computed once. All give the values of ComfyUI's own way, within rounding.

The doors are `operations` for layers, `linear` for a product, and `prepare` for a UNet. The way back is ComfyUI's own
code: where torch lacks the operator, where shapes do not fit (the message is torch's then), where a gradient is wanted,
under torch.compile, and everywhere with KOLORS_CPU=0 in the environment.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management
import comfy.ops
import torch
from comfy.cli_args import args
from comfy.ldm.modules import attention
from torch import Tensor, nn

from ..networks.padding import count_equal, equal_tokens, mark

ENABLED = os.environ.get("KOLORS_CPU") != "0"
#: Classes of tensors that bring no products of their own.
PLAIN_TENSORS = (Tensor, nn.Parameter)
#: Operations whose layers are torch's with a cast. Others, for fp8 or GGUF, know better what to do.
PLAIN_OPERATIONS = (comfy.ops.disable_weight_init, comfy.ops.manual_cast)
LARGE = 64 * 64  # latent cells of a convolution's input, from which on its channels go last
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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``nn.functional.linear``: x (..., i), weight (o, i), bias (o,) -> (..., o).

    Torch multiplies float32 by MKL, which uses half the width of the vector registers where the processor is not
    Intel's: on an EPYC with AVX-512 oneDNN is quicker by 2.2 from 16 rows on.
    """
    multiply = _onednn_linear() if is_cpu(x.device) and not torch.compiler.is_compiling() else None
    if multiply is not None and _fits(x, weight, bias):
        return multiply(x, weight, bias, "none", [], "")
    return nn.functional.linear(x, weight, bias)


@functools.cache
def _onednn_linear() -> Callable[..., Tensor] | None:
    """oneDNN's linear layer, where torch has both of Intel's libraries and the operator.

    It is the one that torch's compiler emits, and private: a version of torch may take it away.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return None  # with neither, as on ARM, torch's own choice stands
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the operator takes these: plain float32 in RAM, of shapes that fit, and nothing that learns."""
    learns = torch.is_grad_enabled()
    for tensor in (x, weight) if bias is None else (x, weight, bias):
        if type(tensor) not in PLAIN_TENSORS or not tensor.is_cpu or tensor.dtype != torch.float32:
            return False
        if learns and tensor.requires_grad:
            return False
    if weight.ndim != 2 or x.ndim == 0 or not x.shape[-1] == weight.shape[1] > 0:
        return False
    return bias is None or bias.shape == weight.shape[:1]


class CPULinear(nn.Linear):
    """Mixin for the host's Linear: equal tokens of a marked input are computed once, and where it is plain by `linear`.

    The output for a marked input is marked.
    """

    is_plain: bool

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        if not is_cpu(x.device) or torch.compiler.is_compiling():
            return super().forward(x, *args, **kwargs)
        if (count := equal_tokens(x)) < 2:
            return self._multiply(x, *args, **kwargs)
        y = self._multiply(x[:, count - 1 :], *args, **kwargs)
        return mark(torch.cat((y[:, :1].expand(-1, count - 1, -1), y), dim=1), count)

    def _multiply(self, x: Tensor, *args, **kwargs) -> Tensor:
        patched = self.weight_function or self.bias_function
        if not self.is_plain or patched or self.weight.device != x.device:
            return super().forward(x, *args, **kwargs)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


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


def operations(base: Any) -> Any:
    """The host's operations, a class or an object of one, with the layers above; Conv2d only where they are plain."""
    base = base if isinstance(base, type) else type(base)
    is_plain = base in PLAIN_OPERATIONS
    layers: dict[str, type] = {"Linear": type("Linear", (CPULinear, base.Linear), {"is_plain": is_plain})}
    if is_plain:
        layers["Conv2d"] = type("Conv2d", (CPUConv2d, base.Conv2d), {})
    return type(base.__name__, (base,), layers)


#: For networks whose weights may have another dtype than what they are given.
CASTING = operations(comfy.ops.manual_cast)


# ---- the UNet -------------------------------------------------------------------------------------------------------


def count_padding(device: torch.device, context: Tensor) -> dict[str, Tensor]:
    """What `prepare` wants to know of each prompt (p, tokens, width), counted once for all steps."""
    return {"equal_tokens": count_equal(context)} if is_cpu(device) else {}


def prepare(context: Tensor, options: Mapping[str, Any], counts: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
    """Context and transformer options of a UNet's call, with what a CPU computes in another way.

    counts: of `count_padding`, for the prompts of the batch; None where the conditioning does not tell.
    """
    if not is_cpu(context.device):
        return context, dict(options)
    if counts is not None and not torch.compiler.is_compiling():
        context = mark(context, int(counts.min()))
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
