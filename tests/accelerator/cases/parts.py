"""What the cases are made of: the functions behind the nodes, with tiny models and short runs."""

from __future__ import annotations

from functools import cache

import comfy.model_management
import comfy.sd
import image_prompts
import torch
from safetensors.torch import load_file
from torch import Tensor

import nodes

from . import files
from .pack import conditioning, control_net, face, image_prompt, ip_adapter, loaders, lora, sampling

PROMPT = "一只(红苹果:1.3), a red apple on a yellow background"
MAX_TOKENS = 256
CFG = 5.0
SIDE = 128  # pixels
CELL = 8  # pixels per latent cell


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- text


@cache
def clip():
    return loaders.load_text_encoder(files.encoder())


def encode(encoder, text: str = PROMPT) -> dict[str, Tensor]:
    ((context, extra),) = encoder.encode_from_tokens_scheduled(encoder.tokenize(text))
    return {"context": context, "pooled": extra["pooled_output"]}


def prompt(text: str, encoder=None, tokens: int = MAX_TOKENS):
    return conditioning.encode_prompt(encoder or clip(), text, tokens, {})


@cache
def prompts():
    """(positive, negative)"""
    return prompt(PROMPT), prompt("")


def prompts_in_areas():
    """The positive prompt above, another one below."""
    positive, negative = prompts()
    place = nodes.ConditioningSetArea().append
    (above,) = place(positive, SIDE // 2, SIDE, 0, 0, 1.0)
    (below,) = place(prompt("blue"), SIDE // 2, SIDE, SIDE // 2, 0, 1.0)
    return nodes.ConditioningCombine().combine(above, below)[0], negative


# ---- models


def load(file=files.unet, dtype: str = "default"):
    return loaders.load_unet(file(), dtype)


def load_vae():
    return comfy.sd.VAE(sd=load_file(files.vae()))


def with_lora(model, strength: float = 1.0, file=files.unet_lora):
    return lora.apply_lora(model, None, file(), strength, 1.0)[0]


# ---- latents


def empty_latent(batch: int = 1, width: int = SIDE, height: int = SIDE) -> dict[str, Tensor]:
    device = comfy.model_management.intermediate_device()
    return {"samples": torch.zeros(batch, 4, height // CELL, width // CELL, device=device)}


def picture_latent() -> dict[str, Tensor]:
    latent = torch.randn(1, 4, SIDE // CELL, SIDE // CELL, generator=seeded(3))
    return {"samples": latent.to(comfy.model_management.intermediate_device())}


def draw(model, preset="euler", steps=4, latent=None, denoise=1.0, cfg=CFG, cond=None) -> Tensor:
    """By the pack's sampler."""
    positive, negative = cond or prompts()
    latent = latent or empty_latent()
    return sampling.sample(model, 1, steps, cfg, preset, positive, negative, latent, denoise)["samples"]


def draw_stock(model, sampler="euler", scheduler="normal") -> Tensor:
    """By the host's KSampler."""
    (latent,) = nodes.common_ksampler(model, 1, 4, CFG, sampler, scheduler, *prompts(), empty_latent())
    return latent["samples"]


# ---- pictures as prompts


def picture(seed: int = 1, side: int = 336) -> Tensor:
    return image_prompts.picture(side, side, seed)


def two_pictures() -> Tensor:
    return torch.cat([picture(1), picture(2)])


@cache
def tower():
    return image_prompts.host_tower(files.FOLDER)


def half_mask(batch: int = 1) -> Tensor:
    return torch.ones(batch, 64, 64).tril()


def with_picture(model, file=files.ip_adapter, images=None, weight=0.8, start=0.0, end=1.0, **options):
    adapter = ip_adapter.load_ip_adapter(file())
    prompt = image_prompt.encode(tower(), picture() if images is None else images)
    return ip_adapter.apply_image_prompt(model, adapter, prompt, ip_adapter.Influence(weight, start, end, **options))


def with_face(model, count: int = 1):
    adapter = ip_adapter.load_ip_adapter(files.face_adapter())
    embeddings = torch.randn(count, 512, generator=seeded(5))
    crops = torch.cat([picture(seed) for seed in range(count)])
    tokens = face.encode_faces(adapter, tower(), (embeddings, crops))
    return ip_adapter.apply(model, adapter, tokens, ip_adapter.Influence(0.8, 0.0, 1.0))


# ---- control


def controlled(file, model=None, start: float = 0.0, end: float = 1.0):
    """The prompts with a ControlNet; `model`: what one of SDXL is adapted to."""
    net = control_net.load_control_net(file(), model)
    hint = picture(7, SIDE)
    return tuple(nodes.ControlNetApplyAdvanced().apply_controlnet(*prompts(), net, hint, 1.0, start, end))
