"""The host as it is under its dynamic VRAM, which is the default on NVIDIA since 0.16 (Windows) and 0.30 (Linux).

Then the host's layers have no tensors until they are loaded, and where there is an accelerator its patches wait in
``weight_lowvram_function``. On a CPU the host takes its plain patcher, so that here the first is seen alone; the second
is made by the tests themselves. Hosts without dynamic VRAM get a Linear that is as lazy, and show the same faults.

KOLORS_DYNAMIC_VRAM=1 runs any test of tests/host so.
"""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import nn


def switch_on(replace: Callable[[object, str, object], None] = setattr) -> None:
    """Make the host's layers lazy, before a model is built; `replace` may be a monkeypatch's setattr."""
    memory = getattr(comfy, "memory_management", None)  # since 0.12
    if not hasattr(memory, "aimdo_enabled"):
        replace(comfy.ops.disable_weight_init.Linear, "__init__", lazy_init)
        replace(comfy.ops.disable_weight_init.Linear, "_load_from_state_dict", lazy_load)
        return
    replace(memory, "aimdo_enabled", True)
    replace(comfy.model_management, "WINDOWS", True)  # before 0.30 layers are lazy there alone
    replace(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic)


def lazy_init(self, in_features, out_features, bias=True, device=None, dtype=None):
    """A Linear of the host without tensors."""
    nn.Module.__init__(self)
    self.in_features, self.out_features, self.has_bias = in_features, out_features, bias
    self.weight = self.bias = None


def lazy_load(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
    """Take over what is given, of any shape, and zeros for what is not."""
    shapes = {"weight": (self.out_features, self.in_features)}
    if self.has_bias:
        shapes["bias"] = (self.out_features,)
    for name, shape in shapes.items():
        tensor = state_dict.get(prefix + name)
        if tensor is None:
            missing_keys.append(prefix + name)
            tensor = torch.zeros(shape)
        elif not local_metadata.get("assign_to_params_buffers", False):
            tensor = tensor.clone()
        setattr(self, name, nn.Parameter(tensor, requires_grad=False))
