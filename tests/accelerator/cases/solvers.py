"""Sampling: the presets, the host's samplers and schedules, latents of every kind."""

from __future__ import annotations

from functools import partial

import comfy.samplers
import comfy_extras.nodes_custom_sampler
import torch
from stock_nodes import sample, stock
from torch import Tensor

from . import files
from .pack import sampling
from .parts import CFG, SIDE, draw, draw_stock, empty_latent, load, picture_latent, prompts, prompts_in_areas


def draw_custom(preset: str) -> Tensor:
    """SIGMAS of the pack, sampler and node of the host."""
    model = load()
    sigmas = sampling.build_sigmas(model, preset, 6, 1.0)
    node = comfy_extras.nodes_custom_sampler.SamplerCustom()
    euler = comfy.samplers.sampler_object("euler")
    return node.execute(model, True, 1, CFG, *prompts(), euler, sigmas, empty_latent())[0]["samples"]


def draw_split() -> Tensor:
    """A schedule in two parts, each with the sampler and node of the host."""
    model = load()
    sigmas = sampling.build_sigmas(model, "euler", 6, 1.0, "1000, 700, 400, 200, 50")
    high, low = stock("SplitSigmas")(sigmas, 3)
    first = sample(model, high, prompts(), empty_latent(2), 1, CFG)
    return sample(model, low, prompts(), first, None, CFG)["samples"]


def draw_masked() -> Tensor:
    mask = torch.ones(1, 1, SIDE, SIDE).tril()
    return draw(load(), latent=picture_latent() | {"noise_mask": mask}, denoise=0.8)


CASES = {}
for preset in sampling.SOLVERS:
    CASES[f"preset {preset}"] = partial(lambda preset: draw(load(), preset), preset)
    CASES[f"preset {preset} of a picture"] = partial(
        lambda preset: draw(load(), preset, latent=picture_latent(), denoise=0.6), preset
    )
CASES |= {
    f"stock {sampler}": partial(lambda sampler: draw_stock(load(), sampler), sampler)
    for sampler in ("dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "euler_ancestral", "uni_pc", "lcm", "dpmpp_3m_sde_gpu")
}
CASES |= {
    "stock karras": lambda: draw_stock(load(), "dpmpp_2m", "karras"),
    "KolorsScheduler dpmpp_2m_karras": lambda: draw_custom("dpmpp_2m_karras"),
    "KolorsScheduler deis": lambda: draw_custom("deis"),
    "KolorsModelSampling sdxl": lambda: draw_stock(sampling.set_sampling(load(), "sdxl")),
    "KolorsModelSampling sdxl, ours": lambda: draw(sampling.set_sampling(load(), "sdxl"), "dpmpp_2m_karras"),
    "KolorsModelSampling sdxl, lcm": lambda: draw(sampling.set_sampling(load(), "sdxl"), "lcm", cfg=1.5),
    "split schedule": draw_split,
    "batch of 3": lambda: draw(load(), latent=empty_latent(3)),
    "odd size": lambda: draw(load(), latent=empty_latent(1, 136, 72)),
    "noise mask": draw_masked,
    "guidance": lambda: draw(load(files.guided_unet)),
    "stock guidance": lambda: draw_stock(load(files.guided_unet)),
    "cfg 1": lambda: draw(load(), cfg=1.0),
    "areas": lambda: draw(load(), cond=prompts_in_areas()),
}
