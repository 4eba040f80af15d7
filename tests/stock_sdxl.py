"""The host's own SDXL with the weights of a Kolors MODEL, so that both make the same of the same prompts."""

from __future__ import annotations

import comfy.model_base
import comfy.model_management
import comfy.supported_models
import torch
from comfyui_kolors.kolors_core.host.model_sampling import KolorsSampling
from comfyui_kolors.kolors_core.host.unet import SAMPLING_SETTINGS

PROJECTION = "encoder_hid_proj."


class SDXLConfig(comfy.supported_models.SDXL):
    """SDXL with the betas and the train steps of Kolors."""

    sampling_settings = SAMPLING_SETTINGS


def as_sdxl(kolors):
    """The twin of a Kolors MODEL: classes of the host, without the text projection, with a label input as wide.

    Its noise schedule is ours, which other tests compare with the reference.
    """
    layout = dict(kolors.model.model_config.unet_config)
    del layout["encoder_hid_dim"]
    config = SDXLConfig(layout)
    sdxl = comfy.model_base.SDXL(config)
    sdxl.model_sampling = KolorsSampling(config)
    weights = kolors.model.diffusion_model.state_dict()
    sdxl.diffusion_model.load_state_dict({k: v.clone() for k, v in weights.items() if not k.startswith(PROJECTION)})
    return type(kolors)(sdxl.eval(), kolors.load_device, kolors.offload_device)


@torch.no_grad()
def project(kolors, conditioning):
    """A CONDITIONING of Kolors as its twin takes it, by the projection of a MODEL with its patches."""
    comfy.model_management.load_models_gpu([kolors])
    layer = kolors.model.diffusion_model.encoder_hid_proj
    return [[layer(context.to(kolors.load_device)).cpu(), dict(options)] for context, options in conditioning]
