"""The host's own nodes as plain functions, of the classes that each version has them in."""

from __future__ import annotations

import importlib
from collections.abc import Callable

MODULES = ("nodes", "comfy_extras.nodes_latent", "comfy_extras.nodes_custom_sampler")
MODULES += ("comfy_extras.nodes_align_your_steps",)


def stock(name: str) -> Callable[..., tuple]:
    """A node of the host as a function from its inputs to all its outputs; AttributeError where the host has none."""
    importlib.import_module("comfy_extras.nodes_post_processing")  # first: newer hosts import two in a circle
    modules = [module for module in map(importlib.import_module, MODULES) if hasattr(module, name)]
    if not modules:
        raise AttributeError(f"this host has no node {name}")
    made = getattr(modules[0], name)
    if hasattr(made, "execute"):
        return lambda *inputs, **named: made.execute(*inputs, **named).result
    return getattr(made(), made.FUNCTION)


def sample(model, sigmas, prompts, latent, noise_seed: int | None, cfg: float = 5.0, sampler: str = "euler"):
    """SamplerCustomAdvanced with CFGGuider; noise_seed: None for DisableNoise. The first output, a LATENT."""
    (noise,) = stock("DisableNoise")() if noise_seed is None else stock("RandomNoise")(noise_seed)
    (guider,) = stock("CFGGuider")(model, *prompts, cfg)
    (solver,) = stock("KSamplerSelect")(sampler)
    return stock("SamplerCustomAdvanced")(noise, guider, solver, sigmas, latent)[0]
