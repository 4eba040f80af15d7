"""Small vision towers, and one sampling run with image prompts by diffusers' Kolors pipeline."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from functools import cache
from pathlib import Path

import torch
from reference import build_pipeline, build_scheduler
from sampling_runs import prompts, run
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

KWAI_KOLORS = os.environ.get("KWAI_KOLORS")  # a checkout of the original code, Kwai-Kolors/Kolors
NO_ORIGINAL = "no checkout of Kwai-Kolors/Kolors: set KWAI_KOLORS to its path"

TOWER = {
    "model_type": "clip_vision_model",
    "hidden_act": "quick_gelu",
    "hidden_size": 64,
    "image_size": 336,
    "intermediate_size": 128,
    "num_attention_heads": 1,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": 14,
    "projection_dim": 32,
}


@cache
def reference_tower() -> CLIPVisionModelWithProjection:
    """A random tower of transformers; its weights are exact in fp16, which the host stores such towers in."""
    torch.manual_seed(0)
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**TOWER)).eval()
    louder = {
        key: tensor * 8 if tensor.ndim == 2 and "position" not in key else tensor
        for key, tensor in tower.state_dict().items()
    }
    tower.load_state_dict({key: tensor.half().float() for key, tensor in louder.items()})
    return tower


def host_tower(folder: Path, **changes):
    """The same tower as the stock CLIPVisionLoader's CLIP_VISION; `changes` make one of another shape, of zeros."""
    import comfy.clip_vision

    config = folder / "tower.json"
    config.write_text(json.dumps(TOWER | changes))
    tower = comfy.clip_vision.ClipVisionModel(str(config))
    if changes:
        weights = CLIPVisionModelWithProjection(CLIPVisionConfig(**TOWER | changes)).state_dict()
        weights = {key: torch.zeros_like(tensor) for key, tensor in weights.items()}
    else:
        weights = {key: tensor.clone() for key, tensor in reference_tower().state_dict().items()}
    tower.load_sd(weights)
    return tower


def picture(width: int = 600, height: int = 400, seed: int = 1) -> Tensor:
    """(1, height, width, 3) with detail of all sizes, exact in 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        nn.functional.interpolate(
            torch.rand(1, 3, max(2, height // cell), max(2, width // cell), generator=generator),
            (height, width),
            mode="bicubic",
        )
        for cell in (200, 50, 12, 3)
    ]
    image = (sum(layers) / len(layers)).clamp(0, 1).movedim(1, -1)
    return (image * 255).round() / 255


def nested(adapter: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """An adapter as its .bin file has it."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in adapter.items():
        part, name = key.split(".", 1)
        parts.setdefault(part, {})[name] = tensor
    return parts


def reference_pipeline(unet, adapters: list[dict[str, Tensor]]):
    """diffusers' pipeline with adapters by its own `load_ip_adapter`, on a copy of the UNet."""
    pipe = build_pipeline(
        copy.deepcopy(unet),
        build_scheduler("euler"),
        image_encoder=reference_tower(),
        feature_extractor=CLIPImageProcessorPil(size=336, crop_size=336),
    )
    pipe.load_ip_adapter([nested(adapter) for adapter in adapters], subfolder="", weight_name=[""] * len(adapters))
    return pipe


def face_pipeline(unet, adapter: dict[str, Tensor], tokens: Tensor):
    """The same for FaceID Plus as Kwai-Kolors applies it: face tokens (2, i, t, hidden) pass the text projection.

    Returns the pipeline and its `ip_adapter_image_embeds`. diffusers has no loader for this adapter, so its projections
    are loaded as those of a Plus adapter whose resampler is then replaced by the tokens themselves.
    """
    projections = nested(adapter)["adapter_modules"]
    resampler = {"latents": torch.zeros(1, 1, 64), "proj_in.weight": torch.zeros(64, 64)}
    pipe = build_pipeline(copy.deepcopy(unet), build_scheduler("euler"))
    projected = pipe.unet.encoder_hid_proj(tokens)
    pipe.unet._convert_ip_adapter_image_proj_to_diffusers = lambda *args, **options: nn.Identity()
    pipe.unet._load_ip_adapter_weights([{"image_proj": resampler, "ip_adapter": projections}])
    return pipe, [projected.flip(0)]  # the negative comes first


def original_module(name: str):
    """A file of the original FaceID code as a module."""
    path = Path(KWAI_KOLORS) / "kolors/models/ipa_faceid_plus" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def theirs_by_original_code(unet, adapter: dict[str, Tensor], tokens: Tensor, scale: float, cfg: float) -> Tensor:
    """Final latents with the original attention processors, which find the face behind the text's states."""
    unet = copy.deepcopy(unet)
    module = original_module("attention_processor")
    processors = {}
    for name in unet.attn_processors:
        attention = unet.get_submodule(name.removesuffix(".processor"))
        processors[name] = (
            module.AttnProcessor2_0()
            if "attn1" in name
            else module.IPAttnProcessor2_0(attention.inner_dim, attention.cross_attention_dim, scale, tokens.shape[2])
        )
    unet.set_attn_processor(processors)
    modules = nn.ModuleList(unet.attn_processors.values())
    modules.load_state_dict(nested(adapter)["adapter_modules"])
    pipe = build_pipeline(unet, build_scheduler("euler"))
    context, negative, pooled, negative_pooled = [state for pair in zip(*prompts()) for state in pair]
    states = torch.cat([context, tokens[0]], 1), torch.cat([negative, tokens[1]], 1), pooled, negative_pooled
    pipe.encode_prompt = lambda **given: states
    return run(pipe, states, cfg, height=128, width=128)


@torch.no_grad()
def theirs(pipe, scale, cfg=5.0, steps=10, size=(128, 128), batch=1, masks=None, **options) -> Tensor:
    """Final latents of one run by `pipe`."""
    pipe.set_ip_adapter_scale(scale)
    states = [state.expand(batch, *state.shape[1:]) for pair in zip(*prompts()) for state in pair]
    pipe.encode_prompt = lambda **given: states
    if masks is not None:
        options["cross_attention_kwargs"] = {"ip_adapter_masks": masks}
    return run(pipe, states, cfg, num_inference_steps=steps, height=size[0], width=size[1], **options)
