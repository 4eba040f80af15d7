"""Every difference between host versions that this package has to know, each with the version it serves."""

from __future__ import annotations

import inspect

import comfy.sd


def load_diffusion_model_state_dict(state_dict, model_options, metadata):
    """``comfy.sd.load_diffusion_model_state_dict``; `metadata` is taken since 0.3.67 and would be an error before."""
    load = comfy.sd.load_diffusion_model_state_dict
    if "metadata" in inspect.signature(load).parameters:
        return load(state_dict, model_options=model_options, metadata=metadata)
    return load(state_dict, model_options=model_options)  # 0.3.64
