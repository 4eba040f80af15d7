"""What a Kolors UNet is sampled with, refused in a sentence where it belongs to another model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
from torch import Tensor

from ..errors import BadFile, KolorsError
from ..files.families import ENCODER_WIDTHS
from ..networks import guidance
from . import cpu
from .model_files import where_to_get

LATENT_CHANNELS = 4  # of the SDXL VAE
INPAINTING_CHANNELS = 9  # a latent, a mask, and the latent of the masked image
#: What conditioning may bring that takes weights of its own, by the node that puts it there.
WITHOUT_WEIGHTS = {"unclip_conditioning": "unCLIPConditioning", "gligen": "GLIGENTextBoxApply"}


def check_layout(layout: Mapping[str, Any]) -> None:
    """Whether a UNet, by its arguments, is one of those that can be run. Raises BadFile with what was found."""
    found = layout.get("in_channels"), layout.get("out_channels")
    if found not in ((LATENT_CHANNELS, LATENT_CHANNELS), (INPAINTING_CHANNELS, LATENT_CHANNELS)):
        raise BadFile(
            f"is a Kolors UNet of {found[0]} input and {found[1]} output channels. Expected {LATENT_CHANNELS} of each, "
            f"or {INPAINTING_CHANNELS} and {LATENT_CHANNELS} for inpainting. {where_to_get('diffusion_models')}"
        )
    width = layout.get("time_cond_proj_dim")
    if width is not None and width < guidance.SMALLEST_WIDTH:
        raise BadFile(
            f"is a Kolors UNet with a guidance embedding of width {width}. Expected {guidance.SMALLEST_WIDTH} or more, "
            "as a rule 256. Download it again."
        )


def check_inputs(inputs: Mapping[str, Any], width: int) -> None:
    """Refuse what the host hands to ``extra_conds`` for a prompt, where a UNet of that text `width` cannot take it."""
    _check_text(inputs.get("cross_attn"), inputs.get("pooled_output"), width)
    if (latent := inputs.get("noise")) is not None:
        check_latent(latent, "LATENT")
    scale = inputs.get("guidance")
    if scale is not None and not (isinstance(scale, (int, float)) and math.isfinite(scale)):
        raise KolorsError(f"The conditioning has a guidance of {scale!r}. Expected a number. Set it in its node again.")
    _check_control_nets(inputs.get("control"))
    for name, node in WITHOUT_WEIGHTS.items():
        if inputs.get(name) is not None:
            raise KolorsError(
                f"The conditioning comes from {node}, for which Kolors has no weights. Connect the conditioning that "
                "goes into that node. For an image as a prompt take 'Apply Kolors IP-Adapter'."
            )


def check_latent(latent: Tensor, name: str) -> None:
    """Refuse a latent of another model, a video or sound; `name` is where it comes from."""
    if latent.ndim != 4 or latent.shape[1] != LATENT_CHANNELS or not latent.numel():
        raise KolorsError(
            f"Kolors needs latents of the shape (images, {LATENT_CHANNELS}, height / 8, width / 8); the {name} has "
            f"{tuple(latent.shape)}. Take 'Empty Latent Image', or encode the image with the VAE of SDXL."
        )


def _check_text(context: Tensor | None, pooled: Tensor | None, width: int) -> None:
    for name, tensor, dims in (("text embeddings", context, 3), ("a pooled embedding", pooled, 2)):
        if tensor is None or tensor.ndim != dims or tensor.shape[-1] != width or not tensor.numel():
            raise KolorsError(
                f"This Kolors model needs {name} of width {width}; the conditioning has {_describe(tensor, dims)}. "
                "Encode the prompts with the CLIP of 'Load Kolors ChatGLM3 Text Encoder', "
                "and with the encoder that belongs to this UNet."
            )
        if cpu.is_at_hand(tensor) and not tensor.isfinite().all():
            raise KolorsError(
                f"The conditioning has {name} with values that are not finite, which would make the image black. "
                "Encode the prompt again, or get the file that it comes from again."
            )


def _describe(tensor: Tensor | None, dims: int) -> str:
    if tensor is None:
        return "none"
    if tensor.ndim != dims or not tensor.numel():
        return f"the shape {tuple(tensor.shape)}"
    width = tensor.shape[-1]
    return f"width {width}" + (f" ({ENCODER_WIDTHS[width]})" if width in ENCODER_WIDTHS else "")


def _check_control_nets(control) -> None:
    """Name a ControlNet that reads another model's text before it multiplies tensors of other widths."""
    while control is not None:
        network = getattr(control, "control_model", None)
        is_hosts = isinstance(network, comfy.cldm.cldm.ControlNet) or type(network).__module__.startswith("comfy.")
        plain = is_hosts and not hasattr(network, "encoder_hid_proj")
        if plain or type(control) is comfy.controlnet.ControlLora:
            raise KolorsError(
                "A ControlNet of another model is applied to Kolors. Load it with 'Load Kolors ControlNet', which "
                "adapts one of SDXL to the MODEL that is connected to it."
            )
        control = control.previous_controlnet
