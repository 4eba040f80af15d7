"""A checkpoint, one file or a diffusers folder, as the host's MODEL, CLIP and VAE."""

from __future__ import annotations

import os
import time

import comfy.sd
from comfy.patcher_extension import CallbacksMP

from ..errors import naming
from ..files.identify import find_chatglm3
from ..files.weights import open_weights
from . import compat
from .diffusers_folder import load_folder
from .messages import blame_file, log_load
from .text_encoder.packed import keep_patches
from .unet_file import checking, extract_unet, give_schedule, inconsistent


def load_checkpoint(path: str, **reload_options):
    """Load a checkpoint as (MODEL, CLIP or None, VAE); a diffusers UNet put there by mistake loads as well.

    path: of a file, or of a diffusers folder.
    A VAE that is not there is the host's empty one, which says so when it is used.
    reload_options: given by the host alone, see `compat.allow_reloading`.
    Raises KolorsError where there is no Kolors UNet, or an incomplete one.
    """
    if os.path.isdir(path):
        return load_folder(path)
    started = time.perf_counter()
    weights = open_weights(path)
    with naming(path):
        unet, prefix = extract_unet(weights.tensors)
        rest = {key: tensor for key, tensor in weights.tensors.items() if prefix and not key.startswith(prefix)}
        checkpoint = {f"model.diffusion_model.{key}": tensor for key, tensor in unet.items()} | rest
        with blame_file("has a damaged VAE"), checking(unet):  # whose damages the host meets in any way
            loaded = comfy.sd.load_state_dict_guess_config(
                checkpoint,
                output_clip=find_chatglm3(rest) is not None,
                metadata=weights.metadata,
                **reload_options,
            )
        model, clip, vae, _ = loaded or (None, None, None, None)
        if model is None:  # the host knows no network of such tensors
            raise inconsistent()
    give_schedule(model)
    if clip is not None:
        clip.patcher.add_callback(CallbacksMP.ON_LOAD, keep_patches)
    for index, part in enumerate((model, clip and clip.patcher, getattr(vae, "patcher", None))):
        compat.allow_reloading(part, _reload_part, path, index)
    log_load("checkpoint", path, model.model.get_dtype(), model.model_size(), started)
    return model, clip, vae


def _reload_part(path: str, index: int, **reload_options):
    part = load_checkpoint(path, **reload_options)[index]
    return getattr(part, "patcher", part)
