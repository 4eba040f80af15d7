"""LoRA files in any key format, renamed to the host's own: ``<module of the model>.lora_up.weight`` and the like.

A key is the name of a module and of one of its parts. Modules are known by what they are called in diffusers, in SD
checkpoints and in DiffSynth, with dots or underscores; parts by what PEFT, diffusers and kohya call them.

Sources: diffusers' ``loaders/lora_conversion_utils.py`` and PEFT's ``save_pretrained`` (keys, alpha); kohya-ss's
sd-scripts; ``sdxl_unet.py`` of DiffSynth-Studio (order of its blocks); LyCORIS (other kinds of parts).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor, tensor

from ..errors import BadFile

UP, DOWN, ALPHA, MAGNITUDE = "lora_up.weight", "lora_down.weight", "alpha", "dora_scale"

#: Prefixes that say which network a module is of, or which library wrote it.
PREFIX = re.compile(
    r"^(?:lora_unet_|lycoris_|lora_te\d?_|base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|unet\."
    r"|text_encoders?\.|transformer\.)+"
)
#: PEFT puts the adapter's name before the end of a part: lora_A.default.weight.
PARTS = (
    (re.compile(r"(lora_up|lora\.up|lora_B|lora_linear_layer\.up)(\.(?!weight)\w+)?(\.weight)?"), UP),
    (re.compile(r"(lora_down|lora\.down|lora_A|lora_linear_layer\.down)(\.(?!weight)\w+)?(\.weight)?"), DOWN),
    (re.compile(r"lora_magnitude_vector(\.(?!weight)\w+)?(\.weight)?"), MAGNITUDE),
)
#: What the host reads under its own names: alpha, convolutions' middle, LoHa, LoKr, OFT, GLoRA, differences, norms.
OTHER_PART = re.compile(
    r"alpha|dora_scale|lora_mid\.weight|reshape_weight|hada_\w+|lokr_\w+|oft_blocks|rescale|[ab][12]\.weight"
    r"|diff|diff_b|set_weight|w_norm|b_norm"
)
FIRST_PART = re.compile(
    r"[._](lora[._]|hada_|lokr_|oft_|diff|alpha|dora_|w_norm|b_norm|set_weight|reshape_weight|weight|bias)"
)
CHATGLM_MODULE = re.compile(r"(encoder_layers_\d+_(self_attention|mlp)_|embedding_word_embeddings)")


@dataclass(frozen=True)
class RenamedLora:
    """A LoRA under the host's keys; `modules` are those it changes, `unknown` those that no model at hand has."""

    tensors: dict[str, Tensor]
    modules: list[str]
    unknown: list[str]


def rename_lora(lora: Mapping[str, Tensor], modules: Mapping[str, str], config: Mapping[str, Any]) -> RenamedLora:
    """Rename the keys of a LoRA.

    modules: the host's name of each module by its `plain_name`. config: PEFT's, for alphas that the file lacks; where
    it is empty the scale is 1, as in diffusers.
    Raises BadFile where a module is not whole.
    """
    tensors: dict[str, Tensor] = {}
    changed: dict[str, str] = {}
    unknown: dict[str, None] = {}
    for key, value in lora.items():
        name, part = split_key(key, modules)
        if name is None:
            unknown[FIRST_PART.split(key, maxsplit=1)[0]] = None
            continue
        module = modules[name]
        changed[module] = name
        if part == MAGNITUDE and value.ndim == 1:
            value = value[:, None]  # PEFT's vector, as the column that the host divides by the norms of the rows
        tensors[f"{module}.{part}"] = value
    for module, name in changed.items():
        check_module(tensors, module)
        if (down := tensors.get(f"{module}.{DOWN}")) is None:
            continue
        if (alpha := read_alpha(config, name, down.shape[0])) is not None:
            tensors.setdefault(f"{module}.{ALPHA}", tensor(alpha))
    return RenamedLora(tensors, list(changed), list(unknown))


def check_module(tensors: Mapping[str, Tensor], module: str) -> None:
    """Check that a module has both matrices of a pair, of the same rank, and one number as alpha.

    Raises BadFile.
    """
    up, down, alpha = (tensors.get(f"{module}.{part}") for part in (UP, DOWN, ALPHA))
    if (up is None) != (down is None):
        wrong = f"lacks its {DOWN if down is None else UP}"
    elif up is not None and down is not None and not _fit(up, down):
        wrong = f"has matrices of {list(up.shape)} and {list(down.shape)}, which cannot be multiplied"
    elif alpha is not None and alpha.numel() != 1:
        wrong = f"has an alpha of {alpha.numel()} numbers"
    else:
        return
    raise BadFile(f"is a damaged LoRA: {module} {wrong}. Download it again.")


def _fit(up: Tensor, down: Tensor) -> bool:
    """Whether up (out, rank, ...) and down (rank, in, ...) can be multiplied."""
    return up.ndim >= 2 <= down.ndim and 0 < up.shape[1] == down.shape[0] and down[0].numel() > 0


def split_key(key: str, modules: Mapping[str, str]) -> tuple[str | None, str]:
    """The `plain_name` of a key's module and the part under its host's name; (None, key) where no module fits."""
    key = key.replace(".processor.", ".").replace("_lora.", ".lora.")
    ends = [match.start() for match in re.finditer(r"\.", key)]
    for end in reversed(ends):
        if (name := plain_name(key[:end])) in modules and (part := part_name(key[end + 1 :])):
            return name, part
    return None, key


def plain_name(module: str) -> str:
    """A module's name without prefix and dots, by which styles are compared."""
    return PREFIX.sub("", module).replace(".", "_")


def part_name(part: str) -> str | None:
    """The host's name of a part; None where it is none of a LoRA."""
    other = part if OTHER_PART.fullmatch(part) else None
    return next((name for pattern, name in PARTS if pattern.fullmatch(part)), other)


def is_encoder_module(module: str) -> bool:
    """Whether a module, found nowhere, is one of ChatGLM3."""
    return CHATGLM_MODULE.match(plain_name(module)) is not None


def read_alpha(config: Mapping[str, Any], module: str, rank: int) -> float | None:
    """What PEFT multiplies a pair of `rank` by, times the rank; None where the configuration does not tell."""
    patterns: dict[str, Any] = config.get("alpha_pattern") or {}
    fits = (value for pattern, value in patterns.items() if module.endswith(pattern.replace(".", "_")))
    alpha: Any = next(fits, config.get("lora_alpha"))
    if not isinstance(alpha, (int, float)):
        return None
    return alpha * math.sqrt(rank) if config.get("use_rslora") else float(alpha)


def read_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """PEFT's configuration of the UNet that diffusers writes into a file's metadata; empty where there is none."""
    try:
        config = json.loads(metadata["lora_adapter_metadata"])
        return {key.removeprefix("unet."): value for key, value in config.items() if key.startswith("unet.")}
    except (KeyError, ValueError, AttributeError, RecursionError):
        return {}


def diffsynth_blocks(layout: Mapping[str, Any]) -> dict[str, str]:
    """DiffSynth's name, ``blocks.N``, of each resnet, attention and sampler by its name in diffusers.

    Its list also counts the places where a skip connection begins or ends. layout: of ComfyUI's UNet configuration.
    """
    names: dict[str, str] = {}
    numbers = count()

    def add(name: str) -> None:
        names[name] = f"blocks.{next(numbers)}"

    resnets = layout["num_res_blocks"]
    depth, depth_up = iter(layout["transformer_depth"]), iter(layout["transformer_depth_output"][::-1])
    for level, length in enumerate(resnets):
        for index in range(length):
            add(f"down_blocks.{level}.resnets.{index}")
            if next(depth):
                add(f"down_blocks.{level}.attentions.{index}")
            next(numbers)
        if level + 1 < len(resnets):
            add(f"down_blocks.{level}.downsamplers.0")
            next(numbers)
    for name in ("resnets.0", "attentions.0", "resnets.1"):
        add(f"mid_block.{name}")
    for level, length in enumerate(reversed(resnets)):
        for index in range(length + 1):
            next(numbers)
            add(f"up_blocks.{level}.resnets.{index}")
            if next(depth_up):
                add(f"up_blocks.{level}.attentions.{index}")
        if level + 1 < len(resnets):
            add(f"up_blocks.{level}.upsamplers.0")
    return names


def other_names(module: str, blocks: Mapping[str, str]) -> Iterator[str]:
    """What a module with diffusers' name is called elsewhere: by old processors, and by DiffSynth."""
    if module.endswith(".to_out.0"):
        yield module.removesuffix(".0")
    match = re.match(r"(?:down_blocks|up_blocks)\.\d+\.\w+\.\d+|mid_block\.\w+\.\d+", module)
    if match and match[0] in blocks:
        rest = module[match.end() :].replace(".to_out.0", ".to_out")
        yield blocks[match[0]] + rest.replace(".ff.net.0.proj", ".act_fn.proj").replace(".ff.net.2", ".ff")
    outside = {
        "encoder_hid_proj": "text_intermediate_proj",
        "time_embedding.linear_1": "time_embedding.0",
        "time_embedding.linear_2": "time_embedding.2",
        "add_embedding.linear_1": "add_time_embedding.0",
        "add_embedding.linear_2": "add_time_embedding.2",
    }
    if module in outside:
        yield outside[module]
