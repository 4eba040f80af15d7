"""From a file to the host's MODEL, CLIP and VAE."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.model_detection
import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ..errors import KolorsError, log
from ..files import check_tensors, locate, open_weights, read_config, read_state_dict
from ..files.gguf import is_gguf, open_gguf
from ..files.identify import describe, diffusers_unet_layout, find_chatglm3, find_kolors_unet, strip_prefix
from . import compat, model_files
from .expected import expected_tensors
from .text_encoder import clip as text_encoder
from .text_encoder import storage as encoder_weights
from .text_encoder.packed import keep_patches
from .unet import KolorsUNet

#: What a user may choose to store a UNet in; "default" leaves it to the host and the file.
WEIGHT_DTYPES = {**encoder_weights.WEIGHT_DTYPES, "fp8_e4m3fn_fast": torch.float8_e4m3fn}


@contextmanager
def blaming(path: str, fault: str) -> Iterator[None]:
    """Tell the host's reading of a damaged file, which fails in any way, as a fault of the file.

    Cancel and too little memory are none, and pass through as they are.
    """
    try:
        yield
    except (KolorsError, comfy.model_management.InterruptProcessingException):
        raise
    except Exception as error:
        if compat.is_out_of_memory(error):
            raise
        raise KolorsError(f"{locate(path)} {fault} ({error!r}). Download it again.") from error


def load_unet(path: str, weight_dtype: str = "default", **dynamic):
    """Load a Kolors UNet from a file in diffusers' or in SD layout as a MODEL.

    dynamic: given by the host alone, see `compat.allow_reloading`.
    Raises KolorsError where the file is something else or incomplete.
    """
    started = time.perf_counter()
    state_dict, metadata = read_state_dict(path)
    unet = extract_unet(state_dict, path)
    check_unet(unet, path)
    options = {"dtype": WEIGHT_DTYPES[weight_dtype]} if weight_dtype != "default" else {}
    if weight_dtype == "fp8_e4m3fn_fast":
        options["fp8_optimizations"] = True
    model = compat.load_diffusion_model_state_dict(dict(unet), options, metadata, **dynamic)
    if model is None:  # the host knows no network of such tensors
        raise _does_not_add_up(path)
    model.add_callback(CallbacksMP.ON_LOAD, compat.forget_schedule)
    compat.allow_reloading(model, load_unet, path, weight_dtype)
    log_load("UNet", path, model.model.get_dtype(), model.model_size(), started)
    return model


def extract_unet(state_dict: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The Kolors UNet of a file under SD names without a prefix, complete or not."""
    prefix = find_kolors_unet(state_dict)
    if prefix is None:
        raise KolorsError(
            f"{locate(path)} is {describe(state_dict)}. Expected a Kolors UNet, which has encoder_hid_proj.weight. "
            f"Get {model_files.SOURCES['diffusion_models']} ({model_files.MIRRORS})."
        )
    unet = strip_prefix(state_dict, prefix)
    if "conv_in.weight" not in unet:
        return unet
    try:  # diffusers' names: renamed by the host's own table, in which encoder_hid_proj keeps its name
        names = comfy.utils.unet_to_diffusers(diffusers_unet_layout(unet))
    except Exception as error:
        raise _does_not_add_up(path, error) from error
    return {names.get(key, key): tensor for key, tensor in unet.items()}


def check_unet(unet: dict[str, Tensor], path: str) -> None:
    """Check a UNet's tensors against the network that they describe, before there is memory for it.

    Raises KolorsError with what is missing, of another shape, or left over.
    """
    try:
        layout = comfy.model_detection.detect_unet_config(unet, "") | {
            "encoder_hid_dim": unet["encoder_hid_proj.weight"].shape[1],
            "num_head_channels": 64,
        }
        expected = expected_tensors(KolorsUNet, **layout)
    except Exception as error:
        raise _does_not_add_up(path, error) from error
    check_tensors(expected, unet, "Kolors UNet", path)
    if stray := _stray_tensors(expected, unet):
        raise KolorsError(
            f"{locate(path)} is an incomplete Kolors UNet: {len(stray)} tensors are of a block that lacks others "
            f"({stray[0]}). Download it again."
        )


def _does_not_add_up(path: str, error: Exception | None = None) -> KolorsError:
    return KolorsError(
        f"{locate(path)} is an incomplete Kolors UNet: its blocks do not add up"
        f"{f', without {error.args[0]}' if isinstance(error, KeyError) else ''}. Download it again."
    )


def _stray_tensors(expected: dict[str, Tensor], unet: dict[str, Tensor]) -> list[str]:
    """Names of tensors that belong to a block, but to none of the network's."""
    blocks = ("input_blocks.", "middle_block.", "output_blocks.")
    return [
        key for key in unet if key.startswith(blocks) and key.endswith((".weight", ".bias")) and key not in expected
    ]


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
            f"Get {model_files.SOURCES['text_encoders']} ({model_files.MIRRORS})."
        )
    encoder, config, source = text_encoder.prepare(weights.tensors, prefix, read_config(path, weights.metadata), path)
    tokenizer = model_files.find_tokenizer(path, config.vocab_size, weights.tensors.get(model_files.TOKENIZER_KEY))
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
    check_unet(unet, path)
    prefix = find_kolors_unet(state_dict)
    rest = (
        {key: tensor for key, tensor in state_dict.items() if not (prefix and key.startswith(prefix))} if prefix else {}
    )
    checkpoint = {f"model.diffusion_model.{key}": tensor for key, tensor in unet.items()} | rest
    with blaming(path, "has a damaged VAE"):  # whose damages the host meets in any way
        model, clip, vae, _ = comfy.sd.load_state_dict_guess_config(
            checkpoint, output_clip=find_chatglm3(rest) is not None, metadata=metadata, **dynamic
        )
    model.add_callback(CallbacksMP.ON_LOAD, compat.forget_schedule)
    if clip is not None:
        clip.patcher.add_callback(CallbacksMP.ON_LOAD, keep_patches)
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
