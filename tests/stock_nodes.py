"""The host's own nodes as plain functions, of the classes that each version has them in."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

MODULES = ("nodes", "comfy_extras.nodes_latent", "comfy_extras.nodes_custom_sampler")
MODULES += ("comfy_extras.nodes_align_your_steps",)
#: What takes a MODEL and gives one, and hooks; no host has all of these.
PATCHES = ("apg", "attention_multiply", "cfg", "context_windows", "differential_diffusion", "easycache", "eps")
PATCHES += ("freelunch", "fresca", "hooks", "hypernetwork", "hypertile", "lora_debug", "lumina2", "mahiro", "multigpu")
PATCHES += ("model_advanced", "model_downscale", "model_merging", "model_merging_model_specific", "nag", "pag")
PATCHES += ("perpneg", "rope", "sag", "sd3", "slg", "tcfg", "tomesd", "torch_compile", "train", "video_model")
MODULES += tuple(f"comfy_extras.nodes_{name}" for name in PATCHES)


def stock(name: str) -> Callable[..., tuple]:
    """A node of the host as a function from its inputs to all its outputs; AttributeError where the host has none."""
    importlib.import_module("comfy_extras.nodes_post_processing")  # first: newer hosts import two in a circle
    known = (importlib.import_module(module) for module in MODULES if importlib.util.find_spec(module))
    made = next((getattr(module, name) for module in known if hasattr(module, name)), None)
    if made is None:
        raise AttributeError(f"this host has no node {name}")
    if hasattr(made, "execute"):
        return lambda *inputs, **named: getattr(result := made.execute(*inputs, **named), "result", result)
    return getattr(made(), made.FUNCTION)


def sample(model, sigmas, prompts, latent, noise_seed: int | None, cfg: float = 5.0, sampler: str = "euler"):
    """SamplerCustomAdvanced with CFGGuider; noise_seed: None for DisableNoise. The first output, a LATENT."""
    (noise,) = stock("DisableNoise")() if noise_seed is None else stock("RandomNoise")(noise_seed)
    (guider,) = stock("CFGGuider")(model, *prompts, cfg)
    (solver,) = stock("KSamplerSelect")(sampler)
    return stock("SamplerCustomAdvanced")(noise, guider, solver, sigmas, latent)[0]
