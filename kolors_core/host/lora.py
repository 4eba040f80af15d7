"""LoRAs in the host: named as its own application expects them, counted, and applied by it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
from torch import Tensor

from ..errors import KolorsError, check_numbers, log
from ..files import locate, read_json, read_state_dict
from ..files.identify import describe
from ..files.lora_keys import (
    DOWN,
    UP,
    Converted,
    convert,
    diffsynth_blocks,
    is_encoder_module,
    other_names,
    plain_name,
    read_metadata,
)
from ..networks.quantization import PackedLinear
from .unet import Kolors
from .unet_file import blaming

UNET, ENCODER, WEIGHT = "diffusion_model.", "text_encoders.", ".weight"
PEFT_PREFIX, PEFT_CONFIG = "base_model.model.", "adapter_config.json"


def apply_lora(model, clip, path: str, strength_model: float, strength_clip: float):
    """(MODEL, CLIP, tensors, report): clones with the LoRA of a file in any style of keys; `clip` may be None.

    The tensors are the file's under keys that the stock nodes read; the report says in words how many modules matched.
    Raises KolorsError where none does, where shapes are of another model, or where `model` is not Kolors.
    """
    if not isinstance(model.model, Kolors):
        raise KolorsError("This node expects a Kolors MODEL. Connect that of 'Load Kolors UNet'.")
    check_numbers(strength_model=strength_model, strength_clip=strength_clip)
    lora, metadata = read_state_dict(path)
    lora_config = _peft_config(lora, metadata, path)
    try:
        converted = convert(lora, unet_modules(model) | encoder_modules(clip), lora_config)
    except KolorsError as error:
        raise KolorsError(f"{locate(path)} {error}") from None
    if not converted.modules:
        raise KolorsError(f"{locate(path)}: {_explain_nothing(lora, converted, clip)}")
    _check_shapes(converted, model, clip, path)
    report = _report(converted, clip)
    log.info("[Kolors] LoRA %s: %s", Path(path).name, report)
    with blaming(path, "is a damaged LoRA"):  # of a kind that is no plain pair
        patched = comfy.sd.load_lora_for_models(model, clip, converted.tensors, strength_model, strength_clip)
    return *patched, converted.tensors, report


def unet_modules(model) -> dict[str, str]:
    """What a LoRA in the host's own style calls each module of a Kolors UNet, by `plain_name` of any of its names."""
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


def _report(converted: Converted, clip) -> str:
    of_unet = sum(module.startswith(UNET) for module in converted.modules)
    matched = len(converted.modules)
    text = f"{matched} of {matched + len(converted.unknown)} modules matched ({of_unet} of the UNet"
    text += f", {matched - of_unet} of ChatGLM3)" if matched > of_unet else ")"
    if not converted.unknown:
        return text
    if clip is None and any(map(is_encoder_module, converted.unknown)):
        text += "; some are for ChatGLM3: connect its CLIP"
    return f"{text}; left out: {_shorten(converted.unknown)}"


def _explain_nothing(lora: dict[str, Tensor], converted: Converted, clip) -> str:
    """Why a file changes nothing, and what to do."""
    modules = converted.unknown
    if clip is None and any(map(is_encoder_module, modules)):
        return (
            f"this LoRA is for the text encoder ({len(modules)} modules, such as {modules[0]}). Connect the CLIP of "
            "'Load Kolors ChatGLM3 Text Encoder'."
        )
    kind = describe(lora)
    found = f"0 of its {len(modules)} modules matched ({_shorten(modules)})" if kind == "a LoRA" else f"it is {kind}"
    return f"{found}. Expected a LoRA for Kolors, or one of SDXL."


def _check_shapes(converted: Converted, model, clip, path: str) -> None:
    wrong = []
    for module in converted.modules:
        up, down = (converted.tensors.get(f"{module}.{part}") for part in (UP, DOWN))
        if up is None or down is None or f"{module}.reshape_weight" in converted.tensors:
            continue
        found = (up.shape[0], down[0].numel())
        expected = _matrix_shape(module, model, clip)
        if f"{module}.lora_mid.weight" not in converted.tensors and found != expected:
            wrong.append(f"{module} is {list(found)} instead of {list(expected)}")
    if wrong:
        raise KolorsError(
            f"{locate(path)} is a LoRA for another model: {len(wrong)} of its {len(converted.modules)} modules have "
            f"other shapes than here ({_shorten(wrong)}). Expected a LoRA for Kolors, or one of SDXL."
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


def _shorten(names: Iterable[str]) -> str:
    """The first three, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
