"""From a file to the host's MODEL, CLIP and VAE."""

from __future__ import annotations

import time
from pathlib import Path

import comfy.model_detection
import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ..detect import describe, diffusers_unet_layout, find_chatglm3, find_kolors_unet, strip_prefix
from ..errors import KolorsError, log
from ..files import check_tensors, locate, open_weights, read_config, read_state_dict
from ..gguf_file import is_gguf, open_gguf
from . import compat, encoder_weights, paths, text_encoder
from .unet import KolorsUNet

#: What a user may choose to store a UNet in; "default" leaves it to the host and the file.
WEIGHT_DTYPES = {**encoder_weights.WEIGHT_DTYPES, "fp8_e4m3fn_fast": torch.float8_e4m3fn}

#: What ends the host's reading of a file though nothing is wrong with it, or is said in our words already.
NOT_THE_FILE = (
    KolorsError,
    comfy.model_management.InterruptProcessingException,
    comfy.model_management.OOM_EXCEPTION,
)


def load_unet(path: str, weight_dtype: str = "default", **dynamic):
    """Load a Kolors UNet from a file in diffusers' or in SD layout as a MODEL.

    dynamic: given by the host alone, see `compat.allow_reloading`.
    Raises KolorsError where the file is something else or incomplete.
    """
    started = time.perf_counter()
    state_dict, metadata = read_state_dict(path)
    unet = extract_unet(state_dict, path)
    options = {"dtype": WEIGHT_DTYPES[weight_dtype]} if weight_dtype != "default" else {}
    if weight_dtype == "fp8_e4m3fn_fast":
        options["fp8_optimizations"] = True
    model = compat.load_diffusion_model_state_dict(unet, options, metadata, **dynamic)
    compat.allow_reloading(model, load_unet, path, weight_dtype)
    log_load("UNet", path, model.model.get_dtype(), model.model_size(), started)
    return model


def extract_unet(state_dict: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The Kolors UNet of a file under SD names without a prefix, checked to be complete."""
    prefix = find_kolors_unet(state_dict)
    if prefix is None:
        raise KolorsError(
            f"{locate(path)} is {describe(state_dict)}. Expected a Kolors UNet, which has encoder_hid_proj.weight. "
            f"Get {paths.SOURCES['diffusion_models']} ({paths.MIRRORS})."
        )
    unet = strip_prefix(state_dict, prefix)
    try:
        if "conv_in.weight" in unet:
            unet = _to_sd_names(unet)
        expected = _expected_unet(unet)
    except Exception as error:  # the host's reading of an incomplete UNet fails in any way
        raise KolorsError(
            f"{locate(path)} is an incomplete Kolors UNet: its blocks do not add up"
            f"{f', without {error.args[0]}' if isinstance(error, KeyError) else ''}. Download it again."
        ) from error
    check_tensors(expected, unet, "Kolors UNet", path)
    blocks = ("input_blocks.", "middle_block.", "output_blocks.")
    stray = [
        key for key in unet if key.startswith(blocks) and key.endswith((".weight", ".bias")) and key not in expected
    ]
    if stray:
        raise KolorsError(
            f"{locate(path)} is an incomplete Kolors UNet: {len(stray)} tensors are of a block that lacks others "
            f"({stray[0]}). Download it again."
        )
    return unet


def _to_sd_names(unet: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename diffusers' keys by the host's own table; encoder_hid_proj keeps its name."""
    names = comfy.utils.unet_to_diffusers(diffusers_unet_layout(unet))
    return {names.get(key, key): tensor for key, tensor in unet.items()}


def _expected_unet(unet: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and shapes of the UNet that these tensors describe, without memory for it."""
    layout = comfy.model_detection.detect_unet_config(unet, "") | {
        "encoder_hid_dim": unet["encoder_hid_proj.weight"].shape[1],
        "num_head_channels": 64,
    }
    return KolorsUNet(**layout, device="meta", operations=comfy.ops.disable_weight_init).state_dict()


def load_text_encoder(path: str, weight_dtype: str = "default", device: str = "default", **dynamic):
    """Load a ChatGLM3 encoder as a CLIP; `device` "cpu" keeps it there whatever else the host has.

    dynamic: given by the host alone, see `compat.allow_reloading`.
    Raises KolorsError where the file is something else or incomplete, or no tokenizer is found.
    """
    started = time.perf_counter()
    weights = open_gguf(path) if is_gguf(path) else open_weights(path)
    prefix = find_chatglm3(weights.tensors)
    if prefix is None:
        raise KolorsError(
            f"{locate(path)} is {describe(weights.tensors)}. Expected a ChatGLM3 text encoder. "
            f"Get {paths.SOURCES['text_encoders']} ({paths.MIRRORS})."
        )
    encoder, config, source = text_encoder.prepare(weights.tensors, prefix, read_config(path, weights.metadata), path)
    tokenizer = paths.find_tokenizer(path, config.vocab_size, weights.tensors.get(paths.TOKENIZER_KEY))
    options = {}
    if device == "cpu":
        options = {"load_device": torch.device("cpu"), "offload_device": torch.device("cpu")}
    load_device = options.get("load_device", comfy.model_management.text_encoder_device())
    storage = encoder_weights.choose(weight_dtype, source, load_device)

    def read(key: str, rows: slice) -> Tensor:
        return weights.read(prefix + key, rows) if prefix + key in weights.files else encoder[key]  # a default of ours

    state_dict = encoder_weights.convert(config, encoder, source, storage, read)
    clip = text_encoder.build_clip(state_dict, tokenizer, config, storage, options, **dynamic)
    compat.allow_reloading(clip.patcher, _reload_text_encoder, path, weight_dtype, device)
    log_load("ChatGLM3 text encoder", path, storage, clip.patcher.model_size(), started)
    return clip


def _reload_text_encoder(*arguments, **dynamic):
    return load_text_encoder(*arguments, **dynamic).patcher


def load_checkpoint(path: str, **dynamic):
    """Load a checkpoint as (MODEL, CLIP or None, VAE); a diffusers UNet put there by mistake loads as well.

    A VAE that the file does not have is the host's empty one, which says so when it is used.
    dynamic: given by the host alone, see `compat.allow_reloading`.
    Raises KolorsError where the file holds no Kolors UNet or an incomplete one.
    """
    started = time.perf_counter()
    state_dict, metadata = read_state_dict(path)
    unet = extract_unet(state_dict, path)
    prefix = find_kolors_unet(state_dict)
    rest = (
        {key: tensor for key, tensor in state_dict.items() if not (prefix and key.startswith(prefix))} if prefix else {}
    )
    checkpoint = {f"model.diffusion_model.{key}": tensor for key, tensor in unet.items()} | rest
    try:
        model, clip, vae, _ = comfy.sd.load_state_dict_guess_config(
            checkpoint, output_clip=find_chatglm3(rest) is not None, metadata=metadata, **dynamic
        )
    except NOT_THE_FILE:
        raise
    except Exception as error:  # the UNet is whole, so it is the VAE, whose damages the host meets in any way
        raise KolorsError(f"{locate(path)} has a damaged VAE ({error}). Download it again.") from error
    for index, part in enumerate((model, clip and clip.patcher, getattr(vae, "patcher", None))):
        compat.allow_reloading(part, _reload_from_checkpoint, path, index)
    log_load("checkpoint", path, model.model.get_dtype(), model.model_size(), started)
    return model, clip, vae


def _reload_from_checkpoint(path: str, index: int, **dynamic):
    part = load_checkpoint(path, **dynamic)[index]
    return getattr(part, "patcher", part)


def log_load(what: str, path: str, dtype, size: int, started: float) -> None:
    """One line per load: file, what its weights are stored in, size in bytes as MiB, and seconds since `started`."""
    log.info(
        "[Kolors] %s %s: %s, %d MiB, %.1f s",
        what, Path(path).name, str(dtype).removeprefix("torch."), size >> 20, time.perf_counter() - started,
    )  # fmt: skip
