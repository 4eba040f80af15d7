"""The host's operations, computed in the quicker way on a CPU."""

from __future__ import annotations

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor

from ..networks.linear import linear

#: Those whose layers are torch's with a cast. Others, for fp8 or GGUF, know better what to do.
PLAIN = (comfy.ops.disable_weight_init, comfy.ops.manual_cast)
CELLS = 64 * 64  # of a picture, from which on its channels go last


class QuickLinear:
    """Mixin for the host's Linear: on a CPU, where nothing but the dtype has to change, our product takes its place."""

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        others = self.weight_function or self.bias_function or self.weight.device != x.device
        if others or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x, *args, **kwargs)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class QuickConv2d:
    """Mixin for the host's Conv2d: on a CPU, the channels of large float32 pictures are laid last in memory.

    At the widths of Kolors that saves oneDNN 7 to 25 % of a convolution of at least 64 x 64 cells. With fewer, it costs
    more to bring the weights into that order than is saved.
    """

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        is_large = x.dim() == 4 and x.shape[-2:].numel() >= CELLS
        if is_large and x.is_cpu and x.dtype == torch.float32 and not torch.compiler.is_compiling():
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x, *args, **kwargs)


def quick_operations(operations):
    """`operations` with `QuickLinear` and `QuickConv2d`, if they are plain ones."""
    if operations not in PLAIN:
        return operations
    layers = {
        "Linear": type("Linear", (QuickLinear, operations.Linear), {}),
        "Conv2d": type("Conv2d", (QuickConv2d, operations.Conv2d), {}),
    }
    return type(operations.__name__, (operations,), layers)


#: For networks whose weights may have another dtype than what they are given.
CASTING = quick_operations(comfy.ops.manual_cast)
