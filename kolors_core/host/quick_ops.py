"""The host's operations, with `linear` for a matrix that lies in memory as it is used."""

from __future__ import annotations

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor

from ..linear import linear

#: Those whose Linear is a matrix product and a cast. Others, for fp8 or GGUF, know better what to do.
PLAIN = (comfy.ops.disable_weight_init, comfy.ops.manual_cast)


class QuickLinear:
    """Mixin for the host's Linear: on a CPU, where nothing but the dtype has to change, our product takes its place."""

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        others = self.weight_function or self.bias_function or self.weight.device != x.device
        if others or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x, *args, **kwargs)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


def quick_operations(operations):
    """`operations` with `QuickLinear`, if they are plain ones."""
    if operations not in PLAIN:
        return operations
    linear_class = type("Linear", (QuickLinear, operations.Linear), {})
    return type(operations.__name__, (operations,), {"Linear": linear_class})


#: For networks whose weights may have another dtype than what they are given.
CASTING = quick_operations(comfy.ops.manual_cast)
