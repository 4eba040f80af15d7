"""A ChatGLM3 encoder as the host's CLIP: out of a file of its own, or of a checkpoint; and its keys in a checkpoint."""

from __future__ import annotations

import time
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...errors import BadFile, naming
from ...files.config import read_config
from ...files.gguf import is_gguf, open_gguf
from ...files.identify import describe, extract_chatglm3, find_chatglm3
from ...files.weights import Weights, check_tensors, open_weights
from ...networks.chatglm3 import ChatGLM3Config, RotaryEmbedding
from ...networks.tokenizer import TOKENIZER_KEY
from .. import compat
from ..messages import log_load
from ..model_files import where_to_get
from . import clip, storage
from .storage import Storage
from .tokenizer_file import FIND, find_tokenizer

CHECKPOINT_PREFIX = "text_encoders."


def load_text_encoder(
    path: str, weight_dtype: str = "default", device: str = "default", tokenizer: str = FIND, **reload_options
):
    """Load a ChatGLM3 encoder as a CLIP; `device` "default" is the host's choice, any other one of torch's names.

    tokenizer: what is done where it is missing, see `find_tokenizer`. reload_options: given by the host alone, see
    `compat.allow_reloading`.
    Raises KolorsError where the file is something else or incomplete, or no tokenizer is found.
    """
    started = time.perf_counter()
    weights = open_gguf(path) if is_gguf(path) else open_weights(path)
    settings = read_config(path, weights.metadata)
    options = {} if device == "default" else dict.fromkeys(("load_device", "offload_device"), torch.device(device))
    with naming(path):
        prefix = find_chatglm3(weights.tensors)
        if prefix is None:
            raise BadFile(
                f"is {describe(weights.tensors)}. Expected a ChatGLM3 text encoder. {where_to_get('text_encoders')}"
            )
        encoder, config, source = check_encoder(weights, prefix, settings)
    found = find_tokenizer(path, config.vocab_size, weights.tensors.get(TOKENIZER_KEY), tokenizer)
    load_device = options.get("load_device", comfy.model_management.text_encoder_device())
    target = storage.choose_storage(weight_dtype, source, load_device)
    state_dict = storage.convert_weights(config, encoder, source, target)
    loaded = clip.build_clip(state_dict, found, config, target, options, **reload_options)
    compat.allow_reloading(loaded.patcher, _reload_patcher, path, weight_dtype, device)
    log_load("ChatGLM3 text encoder", path, target, loaded.patcher.model_size(), started)
    return loaded


def _reload_patcher(*arguments, **reload_options):
    return load_text_encoder(*arguments, **reload_options).patcher


def check_encoder(weights: Weights, prefix: str, settings: dict[str, Any]) -> tuple[Weights, ChatGLM3Config, Storage]:
    """The encoder under `prefix`, checked to be complete, its configuration, and what it is stored in.

    Raises BadFile where tensors are missing, of the wrong shape, or stored in more than one way.
    """
    tensors = extract_chatglm3(weights.tensors, prefix)
    config = ChatGLM3Config.from_state_dict(tensors, settings)
    frequencies = {"rotary_pos_emb.inv_freq": RotaryEmbedding(config.rotary_dim).inv_freq}
    encoder = weights.rename({key: prefix + key for key in tensors}, defaults=frequencies)
    source = storage.detect_storage(encoder.tensors)
    what = f"ChatGLM3 text encoder{f' in {source}' if source.bits else ''}"
    check_tensors(source.expected(config), encoder.tensors, what)
    return encoder, config, source


def build_target(state_dict: dict[str, Tensor], prefix: str):
    """Tokenizer and encoder of a checkpoint that carries the encoder, as the host's ClipTarget takes them.

    Raises KolorsError where the encoder is incomplete or no tokenizer is found.
    """
    with naming(None):
        encoder, config, source = check_encoder(Weights.of(state_dict), prefix, {})
    tokenizer = find_tokenizer(None, config.vocab_size, state_dict.get(CHECKPOINT_PREFIX + TOKENIZER_KEY))
    target = storage.choose_storage("default", source, comfy.model_management.text_encoder_device())
    return clip.build_target(storage.convert_weights(config, encoder, source, target), tokenizer, config, target)


def to_checkpoint_keys(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys of `KolorsTextEncoder` to those inside a checkpoint, after the host's custom for its newer encoders."""
    return {
        f"{CHECKPOINT_PREFIX}{clip.NAME}.{key}" if key.startswith("transformer.") else CHECKPOINT_PREFIX + key: value
        for key, value in state_dict.items()
    }


def from_checkpoint_keys(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_checkpoint_keys`; an encoder under another prefix is found by its own names."""
    prefix = find_chatglm3(state_dict) or ""
    encoder = {f"transformer.{key}": value for key, value in extract_chatglm3(state_dict, prefix).items()}
    tokenizer = state_dict.get(CHECKPOINT_PREFIX + TOKENIZER_KEY)
    return encoder if tokenizer is None else encoder | {TOKENIZER_KEY: tokenizer}
