"""Every difference between host versions that this package has to know, each with the version it serves.

Each is found by looking at the host, when it is needed: a signature, an attribute.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sample
import comfy.sd
import torch
from comfy_api.latest import ComfyAPISync, io
from torch import Tensor

#: What an empty LATENT tells of the model it was made for, since 0.16; not of one that was sampled.
EMPTY_LATENT = ("downscale_ratio_spacial", "downscale_ratio_temporal")


@contextmanager
def cast(layer, dtype: torch.dtype, bias_dtype: torch.dtype, device: torch.device) -> Iterator[tuple]:
    """Weight and bias of a layer on `device`, by the host's own cast: from wherever they wait, and kept where it can.

    They are the host's to take back when the block ends.
    """
    options = {"dtype": dtype, "bias_dtype": bias_dtype, "device": device}
    if "offloadable" not in inspect.signature(comfy.ops.cast_bias_weight).parameters:  # up to 0.3.67
        yield comfy.ops.cast_bias_weight(layer, **options)
        return
    weight, bias, *stream = comfy.ops.cast_bias_weight(layer, offloadable=True, **options)
    try:
        yield weight, bias
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, *stream)


def patch_values(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """The values of a weight with a patch that waits for them; what they are stored in does not matter.

    Up to 0.3.75 the host's waiting patches take and give a weight as it is stored, which would round its values again.
    """
    if isinstance(function, comfy.model_patcher.LowVramPatch):
        patches = function.patches[function.key]
        return comfy.lora.calculate_weight(patches, values, function.key, intermediate_dtype=values.dtype)
    return function(values)


def core_patcher() -> type:
    """The host's patcher of models that it loads itself: since 0.12 the dynamic one where dynamic VRAM is on."""
    return getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def forget_schedule(patcher, *options) -> None:
    """Let a patcher forget the table of the noise schedule that it has just loaded; called by it after each loading.

    Dynamic VRAM (0.16 to 0.33, the newest seen) notes buffers by name and puts them back at the next loading, when
    another schedule may stand in the model: that one would get this one's table.
    """
    if hasattr(patcher, "backup_buffers"):
        for key in [key for key in patcher.backup_buffers if key.startswith("model_sampling.")]:
            del patcher.backup_buffers[key]


def builds_without_tensors() -> bool:
    """Whether a network of the host's layers has no tensors before it is loaded: under dynamic VRAM, since 0.16."""
    return comfy.ops.disable_weight_init.Linear(1, 1).weight is None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is too little memory, whatever its type: MPS raises a RuntimeError, CUDA an AcceleratorError.

    Since 0.17 the host knows some of these itself.
    """
    if isinstance(error, (comfy.model_management.OOM_EXCEPTION, MemoryError)):
        return True
    asked = getattr(comfy.model_management, "is_oom", None)
    return (asked is not None and asked(error)) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )


def load_diffusion_model_state_dict(state_dict, model_options, metadata, **reload_options):
    """``comfy.sd.load_diffusion_model_state_dict``; `metadata` is taken since 0.3.68 and would be an error before.

    reload_options: see `allow_reloading`.
    """
    load = comfy.sd.load_diffusion_model_state_dict
    if "metadata" in inspect.signature(load).parameters:
        return load(state_dict, model_options=model_options, metadata=metadata, **reload_options)
    return load(state_dict, model_options=model_options)  # up to 0.3.67


def allow_reloading(patcher, load: Callable, *arguments) -> None:
    """Tell a patcher how it was loaded, for the nodes that need its weights once more: training, torch.compile, hooks.

    So since 0.15.1, which ends these nodes with an error where it does not know. The host calls
    ``load(*arguments, disable_dynamic=True)`` and takes a patcher.
    """
    if hasattr(patcher, "cached_patcher_init"):
        patcher.cached_patcher_init = (load, arguments)


def fix_empty_latent(model, latent) -> Tensor:
    """The samples of a LATENT; an empty one of another model gets the channels of `model`, since 0.16 its size too."""
    known = inspect.signature(comfy.sample.fix_empty_latent_channels).parameters
    ratios = {name: latent[name] for name in EMPTY_LATENT if name in latent and name in known}
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], **ratios)


def node_replace_class() -> type | None:
    """The class that describes a replacement of a node, of hosts that replace nodes, since 0.14."""
    return getattr(io, "NodeReplace", None) if hasattr(ComfyAPISync(), "node_replacement") else None


def register_node_replacement(replacement) -> None:
    """Hand a replacement to the host. Only where `node_replace_class` gave its class."""
    ComfyAPISync().node_replacement.register(replacement)  # pyright: ignore[reportAttributeAccessIssue] - since 0.14
