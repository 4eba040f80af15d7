"""Every difference between host versions that this package has to know, each with the version it serves."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import comfy.model_patcher
import comfy.sd
import torch
from comfy_api.latest import ComfyAPISync, io


def patches_convert() -> bool:
    """Whether a patch that the host applies in a layer's forward takes the stored weight and converts it itself.

    So it is up to 0.3.75; newer hosts hand it the values. Asked of the host itself.
    """
    asked = []
    patch = comfy.model_patcher.LowVramPatch("", {"": []}, lambda weight, **options: asked.append(True) or weight)
    patch(torch.zeros(1))
    return bool(asked)


def load_diffusion_model_state_dict(state_dict, model_options, metadata, **dynamic):
    """``comfy.sd.load_diffusion_model_state_dict``; `metadata` is taken since 0.3.67 and would be an error before.

    dynamic: see `allow_reloading`.
    """
    load = comfy.sd.load_diffusion_model_state_dict
    if "metadata" in inspect.signature(load).parameters:
        return load(state_dict, model_options=model_options, metadata=metadata, **dynamic)
    return load(state_dict, model_options=model_options)  # 0.3.64


def allow_reloading(patcher, load: Callable, *arguments) -> None:
    """Tell a patcher how it was loaded, for the nodes that need its weights once more: training, torch.compile, hooks.

    So on 0.29, which ends these nodes with an error where it does not know; up to 0.8 nobody asks. The host calls
    ``load(*arguments, disable_dynamic=True)`` and takes a patcher.
    """
    if hasattr(patcher, "cached_patcher_init"):
        patcher.cached_patcher_init = (load, arguments)


def node_replace_class() -> type | None:
    """The class that describes a replacement of a node, of hosts that replace nodes: not yet in 0.8, there in 0.29."""
    return getattr(io, "NodeReplace", None) if hasattr(ComfyAPISync(), "node_replacement") else None


def register_node_replacement(replacement) -> None:
    """Hand a replacement to the host. Only where `node_replace_class` gave its class."""
    ComfyAPISync().node_replacement.register(replacement)
