"""A diffusers folder as the host's MODEL, CLIP and VAE: each part from its own subfolder."""

from __future__ import annotations

import time

import comfy.sd

from ..errors import BadFile, KolorsError, locate, naming
from ..files.kinds import ENCODER, UNET
from ..files.weights import open_weights
from . import compat
from .found_files import UNET_PART, find_part
from .messages import blame_file, log_load
from .text_encoder.load import load_text_encoder
from .unet_file import load_unet

ENCODER_PART, VAE_PART = "text_encoder", "vae"


def load_folder(path: str):
    """Load a diffusers folder as (MODEL, CLIP or None, VAE); a VAE that is not there is the host's empty one.

    Raises KolorsError where there is no Kolors UNet, or a part is something else or incomplete.
    """
    unet, encoder = find_part(path, UNET_PART, UNET), find_part(path, ENCODER_PART, ENCODER)
    if unet is None:
        raise KolorsError(
            f"{locate(path)} has no weights in {UNET_PART}. Expected a diffusers folder. Choose another one."
        )
    vae = find_part(path, VAE_PART)
    return load_unet(unet), load_text_encoder(encoder) if encoder else None, load_vae(vae) if vae else empty_vae()


def load_vae(path: str):
    """Load a file of diffusers' or SD's keys as a VAE. Raises KolorsError where it holds something else."""
    started = time.perf_counter()
    weights = open_weights(path)
    with naming(path):
        with blame_file("has a damaged VAE"):
            vae = comfy.sd.VAE(sd=dict(weights.tensors), metadata=weights.metadata)
        if vae.first_stage_model is None:
            raise BadFile("is no VAE. Expected diffusion_pytorch_model.fp16.safetensors of a folder called vae.")
    compat.allow_reloading(vae.patcher, _reload_vae, path)
    log_load("VAE", path, vae.vae_dtype, vae.patcher.model_size(), started)
    return vae


def empty_vae():
    """The host's VAE without a model, which says so when it is used."""
    return comfy.sd.VAE(sd={})


def _reload_vae(path: str, **reload_options):
    """`reload_options` are not for a VAE: the host's own has none either."""
    return load_vae(path).patcher
