"""What a ControlNet file is, told from its keys and shapes, and its names in the layout of SD checkpoints.

Sources: diffusers' ``ControlNetModel`` and ``ControlNetUnionModel`` (key names); lllyasviel's ControlNet (SD names);
``config.json`` of Kwai-Kolors/Kolors-ControlNet-Canny; stabilityai/control-lora (low-rank differences to a UNet).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import TypeVar

from ..keys import find_prefix, strip_prefix
from .families import SDXL, TEXT_WIDTHS
from .identify import Shaped

DIFFUSERS_MARK, SD_MARK = "controlnet_cond_embedding.conv_in.weight", "zero_convs.0.0.weight"
CONTROL_LORA_MARK = "lora_controlnet"
DIFFERENCE_MARK = "difference"  # weights that hold what a UNet lacks to them
UNION_MARK = "control_add_embedding.linear_1.weight"
T2I_MARKS = ("adapter.body.0.resnets.0.block1.weight", "body.0.block1.weight", "body.0.in_conv.weight")

Value = TypeVar("Value")


def extract_control_net(state_dict: Mapping[str, Value]) -> dict[str, Value] | None:
    """The tensors of a ControlNet, without the prefix of its file; None where `state_dict` holds none."""
    for mark in (DIFFUSERS_MARK, SD_MARK):
        prefix = find_prefix(state_dict, mark)
        if prefix is not None:
            return strip_prefix(state_dict, prefix)
    return None


def is_control_lora(state_dict: Container[str]) -> bool:
    """Whether the file holds a ControlNet as low-rank differences to the UNet that it is used with."""
    return CONTROL_LORA_MARK in state_dict


def is_t2i_adapter(state_dict: Container[str]) -> bool:
    """Whether the file holds a T2I-Adapter, which looks at the image alone and reads no text."""
    return any(mark in state_dict for mark in T2I_MARKS)


def is_usable(state_dict: Mapping[str, Shaped]) -> bool:
    """Whether the file holds a ControlNet or Control-LoRA of Kolors, or one that no width tells to be of another."""
    control_net = extract_control_net(state_dict)
    if control_net is None and is_control_lora(state_dict):
        control_net = dict(state_dict)
    if control_net is None or "encoder_hid_proj.weight" in control_net:
        return control_net is not None
    width = text_width(control_net)
    return width is None or TEXT_WIDTHS.get(width, SDXL) == SDXL


def text_width(control_net: Mapping[str, Shaped]) -> int | None:
    """Width of the text that the cross attention reads; None where there is no cross attention."""
    for key in control_net:
        if key.endswith(("attn2.to_k.weight", "attn2.to_k.down")):
            return control_net[key].shape[1]
    return None


def describe_family(control_net: Mapping[str, Shaped]) -> str:
    """An SD family by the text width, for messages."""
    width = text_width(control_net)
    return f"{TEXT_WIDTHS.get(width or 0, 'another model')} (text width {width})"


def sd_name(key: str) -> str:
    """The SD name of a key that only ControlNets have; other keys stay as they are.

    The eight convolutions of the hint stand at every other place in SD's list, with activations between them.
    """
    if match := re.fullmatch(r"controlnet_cond_embedding\.(conv_in|conv_out|blocks\.(\d+))\.(weight|bias)", key):
        place = {"conv_in": 0, "conv_out": 14}.get(match[1])
        return f"input_hint_block.{2 * int(match[2]) + 2 if place is None else place}.{match[3]}"
    key = re.sub(r"^controlnet_down_blocks\.(\d+)\.", r"zero_convs.\1.0.", key)
    key = key.replace("controlnet_mid_block.", "middle_block_out.0.")
    return key.replace(".attn.in_proj_", ".attn.in_proj.")  # of a union's fusing layer
