"""What a state dict is, told from its keys and shapes alone; those of a header do as well."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..errors import shorten
from ..keys import count_indices, find_prefix, strip_prefix
from .families import TEXT_WIDTHS

SIZE_EMBEDDING = 6 * 256  # height, width, crop top, crop left, target height, target width; each 256 sinusoids

#: What projects the embedded guidance of a UNet that was distilled with it: diffusers' name, which files with SD names
#: have as well, for the converters leave it as it is; and one that follows the others of SD.
GUIDANCE_KEY = "time_embedding.cond_proj.weight"
OTHER_UNET_NAMES = {"time_embed.cond_proj.weight": GUIDANCE_KEY}

CHATGLM_KEY = re.compile(r"(|.*\.)encoder\.layers\.\d+\.self_attention\.query_key_value\.weight")
CHATGLM_UNUSED = ("output_layer.", "encoder.final_layernorm.", "prefix_encoder.")


class Shaped(Protocol):
    """A tensor, or what a header says of one."""

    @property
    def shape(self) -> Sequence[int]: ...


Value = TypeVar("Value")


def find_kolors_unet(state_dict: Mapping[str, Shaped]) -> str | None:
    """The prefix of a Kolors UNet in `state_dict`, or None.

    Kolors' mark among SDXL-shaped UNets: a Linear ``encoder_hid_proj``, and a label input as wide as the encoder's
    hidden state plus the size embedding. A Kolors ControlNet has the same mark, but no output convolution.
    """
    prefix = find_prefix(state_dict, "encoder_hid_proj.weight")
    if prefix is None:
        return None
    label = state_dict.get(prefix + "add_embedding.linear_1.weight", state_dict.get(prefix + "label_emb.0.0.weight"))
    has_output = prefix + "conv_out.weight" in state_dict or prefix + "out.2.weight" in state_dict
    hidden = state_dict[prefix + "encoder_hid_proj.weight"].shape[-1]
    if label is None or not has_output or label.shape[-1] != hidden + SIZE_EMBEDDING:
        return None
    return prefix


def find_chatglm3(state_dict: Iterable[str]) -> str | None:
    """The prefix of a ChatGLM3 text encoder, or of a part of one, in `state_dict`; None where there is none."""
    for key in state_dict:
        if match := CHATGLM_KEY.fullmatch(key):
            return match[1]
    return None


def extract_chatglm3(state_dict: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """The encoder's tensors under their published names, without the parts Kolors never runs."""
    encoder = strip_prefix(state_dict, prefix)
    return {
        key: value
        for key, value in encoder.items()
        if key.startswith(("embedding.", "encoder.", "rotary_pos_emb.")) and not key.startswith(CHATGLM_UNUSED)
    }


def is_quantized(state_dict: Mapping[str, object]) -> bool:
    """Whether matrices are stored as integers with a ``weight_scale``."""
    return any(key.endswith(".weight_scale") for key in state_dict)


def diffusers_unet_layout(keys: Iterable[str]) -> dict[str, Any]:
    """Block counts of a UNet with diffusers' names, under the names of ComfyUI's UNet configuration."""
    keys = list(keys)
    blocks = range(count_indices(keys, "down_blocks."))
    resnets = [count_indices(keys, f"down_blocks.{i}.resnets.") for i in blocks]
    depth = [
        count_indices(keys, f"down_blocks.{i}.attentions.{j}.transformer_blocks.")
        for i in blocks
        for j in range(resnets[i])
    ]
    depth_up = [
        count_indices(keys, f"up_blocks.{i}.attentions.{j}.transformer_blocks.")
        for i in blocks
        for j in range(count_indices(keys, f"up_blocks.{i}.resnets."))
    ]
    return {
        "num_res_blocks": resnets,
        "channel_mult": [1] * len(blocks),  # only its length counts for the key names
        "transformer_depth": depth,
        "transformer_depth_output": depth_up[::-1] or [0] * sum(n + 1 for n in resnets),  # a ControlNet has no way up
        "transformer_depth_middle": count_indices(keys, "mid_block.attentions.0.transformer_blocks."),
    }


def describe(state_dict: Mapping[str, Shaped]) -> str:
    """Say in words what `state_dict` seems to be, for messages."""
    keys = list(state_dict)

    def has(*parts: str) -> bool:
        return any(all(part in key for part in parts) for key in keys)

    if has("lora_up") or has("lora_A") or has("lora.up") or has("lora_down") or has("hada_w1") or has("lokr_"):
        return "a LoRA"
    if find_chatglm3(state_dict) is not None:
        return "a ChatGLM3 text encoder" + (" with integer weights" if is_quantized(state_dict) else "")
    if find_kolors_unet(state_dict) is not None:
        return "a Kolors UNet"
    if has("control_model.") or has("controlnet_cond_embedding") or has("controlnet_down_blocks"):
        return "a Kolors ControlNet" if has("encoder_hid_proj.weight") else "a ControlNet"
    if has("ip_adapter.") or has("image_proj."):
        return "an IP-Adapter"
    unet = _describe_unet(state_dict)
    if unet:
        return unet
    if has("vision_model."):
        return "a CLIP vision model"
    if has("text_model.") or has("transformer.resblocks"):
        return "a CLIP text encoder"
    if has("encoder.block.", "SelfAttention"):
        return "a T5 text encoder"
    if has("decoder.conv_in.weight") or has("taesd_decoder.") or has("first_stage_model."):
        return "a VAE"
    if {"1.weight", "3.conv.0.weight"} <= state_dict.keys():
        return "a TAESD decoder"
    if has("double_blocks.") or has("joint_blocks.") or has("transformer_blocks."):
        return "a diffusion transformer of another model family"
    return f"an unknown model ({len(keys)} tensors: {shorten(keys)})"


def _describe_unet(state_dict: Mapping[str, Shaped]) -> str | None:
    """Name an SD-family UNet by its key names and the width of its text conditioning."""
    to_key = find_prefix(state_dict, "attn2.to_k.weight")
    if to_key is None:
        return None
    if find_prefix(state_dict, "input_blocks.0.0.weight") is not None:
        kind, keys = "checkpoint or UNet", "SD"
    elif find_prefix(state_dict, "conv_in.weight") is not None:
        kind, keys = "UNet", "diffusers"
    else:
        return None
    width = state_dict[to_key + "attn2.to_k.weight"].shape[-1]
    family = TEXT_WIDTHS.get(width, "another model")
    return f"a {kind} of {family} with {keys} keys (text width {width}, no encoder_hid_proj)"
