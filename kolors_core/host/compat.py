"""Every difference between host versions that this package has to know, each with the version it serves."""

from __future__ import annotations

import inspect

import comfy.model_patcher
import comfy.sd
import torch


def patches_convert() -> bool:
    """Whether a patch that the host applies in a layer's forward takes the stored weight and converts it itself.

    So it is up to 0.3.75; newer hosts hand it the values. Asked of the host itself.
    """
    asked = []
    patch = comfy.model_patcher.LowVramPatch("", {"": []}, lambda weight, **options: asked.append(True) or weight)
    patch(torch.zeros(1))
    return bool(asked)


def load_diffusion_model_state_dict(state_dict, model_options, metadata):
    """``comfy.sd.load_diffusion_model_state_dict``; `metadata` is taken since 0.3.67 and would be an error before."""
    load = comfy.sd.load_diffusion_model_state_dict
    if "metadata" in inspect.signature(load).parameters:
        return load(state_dict, model_options=model_options, metadata=metadata)
    return load(state_dict, model_options=model_options)  # 0.3.64
