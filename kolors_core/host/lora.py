"""LoRAs in the host: named as its own application expects them, counted, and applied by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import comfy.sd
import comfy.utils
from torch import Tensor

from ..errors import BadFile, KolorsError, check_numbers, log, naming, shorten
from ..files.config import read_json
from ..files.identify import describe
from ..files.lora_keys import (
    DOWN,
    UP,
    RenamedLora,
    diffsynth_blocks,
    is_encoder_module,
    other_names,
    plain_name,
    read_metadata,
    rename_lora,
)
from ..files.weights import read_state_dict
from ..networks.quantization import PackedLinear
from .messages import blame_file
from .unet import Kolors

UNET, ENCODER, WEIGHT = "diffusion_model.", "text_encoders.", ".weight"
PEFT_PREFIX, PEFT_CONFIG = "base_model.model.", "adapter_config.json"


class AppliedLora(NamedTuple):
    """What a LoRA made of its models.

    model, clip: clones with the LoRA; `clip` may be None. tensors: the file's, under keys that the stock nodes read.
    report: in words, how many of its modules matched.
    """

    model: Any
    clip: Any
    tensors: dict[str, Tensor]
    report: str


def apply_lora(model, clip, path: str, strength_model: float, strength_clip: float) -> AppliedLora:
    """Apply the LoRA of a file in any key format to a MODEL and, where there is one, a CLIP.

    Raises KolorsError where no module matches, where shapes are of another model, or where `model` is not Kolors.
    """
    if not isinstance(model.model, Kolors):
        raise KolorsError("This node expects a Kolors MODEL. Connect that of 'Load Kolors UNet'.")
    check_numbers(strength_model=strength_model, strength_clip=strength_clip)
    lora, metadata = read_state_dict(path)
    peft = _peft_config(lora, metadata, path)
    with naming(path):
        renamed = rename_lora(lora, unet_modules(model) | encoder_modules(clip), peft)
        if not renamed.modules:
            raise BadFile(_explain_nothing(lora, renamed, clip))
        _check_shapes(renamed, model, clip)
        with blame_file("is a damaged LoRA"):  # of a kind that is no plain pair
            patched_model, patched_clip = comfy.sd.load_lora_for_models(
                model, clip, renamed.tensors, strength_model, strength_clip
            )
    report = _report(renamed, clip)
    log.info("[Kolors] LoRA %s: %s", Path(path).name, report)
    return AppliedLora(patched_model, patched_clip, renamed.tensors, report)


def unet_modules(model) -> dict[str, str]:
    """The host's own name of each module of a Kolors UNet, by `plain_name` of any name that LoRAs have for it."""
    modules = [key.removesuffix(WEIGHT) for key in model.model.diffusion_model.state_dict() if key.endswith(WEIGHT)]
    names = {plain_name(module): UNET + module for module in modules}
    config = model.model.model_config.unet_config
    blocks = diffsynth_blocks(config)
    projection = "encoder_hid_proj" + WEIGHT  # which the host's table of SDXL lacks
    for diffusers_key, key in (comfy.utils.unet_to_diffusers(config) | {projection: projection}).items():
        module = diffusers_key.removesuffix(WEIGHT)
        if module != diffusers_key:
            for name in (module, *other_names(module, blocks)):
                names[plain_name(name)] = UNET + key.removesuffix(WEIGHT)
    return names


def encoder_modules(clip) -> dict[str, str]:
    """The same for the text encoder; empty where there is none."""
    if clip is None:
        return {}
    modules = [key.removesuffix(WEIGHT) for key in clip.cond_stage_model.state_dict() if key.endswith(WEIGHT)]
    return {plain_name(module): ENCODER + module for module in modules}


def _peft_config(lora: dict[str, Tensor], metadata: dict[str, str], path: str) -> dict[str, Any]:
    """What PEFT wrote beside its own files, or diffusers into the metadata of its."""
    beside = Path(path).with_name(PEFT_CONFIG)
    if any(key.startswith(PEFT_PREFIX) for key in lora) and beside.is_file():
        return read_json(beside)
    return read_metadata(metadata)


def _report(renamed: RenamedLora, clip) -> str:
    of_unet = sum(module.startswith(UNET) for module in renamed.modules)
    matched = len(renamed.modules)
    text = f"{matched} of {matched + len(renamed.unknown)} modules matched ({of_unet} of the UNet"
    text += f", {matched - of_unet} of ChatGLM3)" if matched > of_unet else ")"
    if not renamed.unknown:
        return text
    if clip is None and any(map(is_encoder_module, renamed.unknown)):
        text += "; some are for ChatGLM3: connect its CLIP"
    return f"{text}; left out: {shorten(renamed.unknown)}"


def _explain_nothing(lora: dict[str, Tensor], renamed: RenamedLora, clip) -> str:
    """Why a file changes nothing, and what to do."""
    modules = renamed.unknown
    if clip is None and any(map(is_encoder_module, modules)):
        return (
            f"is a LoRA for the text encoder ({len(modules)} modules, such as {modules[0]}). Connect the CLIP of "
            "'Load Kolors ChatGLM3 Text Encoder'."
        )
    kind = describe(lora)
    found = f", but 0 of its {len(modules)} modules matched ({shorten(modules)})" if kind == "a LoRA" else ""
    return f"is {kind}{found}. Expected a LoRA for Kolors, or one of SDXL."


def _check_shapes(renamed: RenamedLora, model, clip) -> None:
    wrong = []
    for module in renamed.modules:
        up, down = (renamed.tensors.get(f"{module}.{part}") for part in (UP, DOWN))
        if up is None or down is None or f"{module}.reshape_weight" in renamed.tensors:
            continue
        found = (up.shape[0], down[0].numel())
        expected = _matrix_shape(module, model, clip)
        if f"{module}.lora_mid.weight" not in renamed.tensors and found != expected:
            wrong.append(f"{module} is {list(found)} instead of {list(expected)}")
    if wrong:
        raise BadFile(
            f"is a LoRA for another model: {len(wrong)} of its {len(renamed.modules)} modules have "
            f"other shapes than here ({shorten(wrong)}). Expected a LoRA for Kolors, or one of SDXL."
        )


def _matrix_shape(module: str, model, clip) -> tuple[int, int]:
    """(out, in) of a module's weight, seen as a matrix."""
    if module.startswith(UNET):
        layer = model.model.get_submodule(module)
    else:
        layer = clip.cond_stage_model.get_submodule(module.removeprefix(ENCODER))
    if isinstance(layer, PackedLinear):
        return layer.out_features, layer.in_features
    return layer.weight.shape[0], layer.weight[0].numel()
