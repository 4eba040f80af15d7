"""Models in turn, after unloading and after an interruption: the same picture each time."""

from __future__ import annotations

import comfy.model_management
import comfy.sample
import torch
from comfy_extras import nodes_model_advanced
from torch import Tensor

from . import files
from .pack import sampling
from .parts import CFG, clip, draw, draw_stock, empty_latent, encode, half_mask, load, prompts, with_picture


def in_turn() -> dict[str, Tensor]:
    first, second = load(), load(files.other_unet)
    found = {}
    for turn in range(3):
        found[f"first {turn}"] = draw(first)
        found[f"second {turn}"] = draw(second)
        found[f"text {turn}"] = encode(clip())["context"]
    for name in ("first", "second", "text"):
        assert torch.equal(found[f"{name} 0"], found[f"{name} 2"]), "not repeated"
    return found


def unloaded() -> Tensor:
    model = with_picture(load(), mask=half_mask(), start=0.1)
    before = draw(model)
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    after = draw(model)
    assert torch.equal(before, after), "another picture after unloading"
    return after


def interrupted() -> Tensor:
    model = with_picture(load())
    before = draw(model, steps=6)
    interrupt_at_second_step(model)
    after = draw(model, steps=6)
    assert torch.equal(before, after), "another picture after an interruption"
    return after


def interrupt_at_second_step(model) -> None:
    sigmas = sampling.build_sigmas(model, "unipc", 6, 1.0)
    sampler = sampling.build_sampler(model, "unipc", 6, sigmas, torch.tensor(True))
    solve, steps = sampler.sampler_function, []

    def solve_until_interrupted(model, x, sigmas, **options):
        def callback(*progress):
            steps.append(progress)
            if len(steps) == 2:
                comfy.model_management.interrupt_current_processing()

        return solve(model, x, sigmas, **{**options, "callback": callback})

    sampler.sampler_function = solve_until_interrupted
    latent = empty_latent()["samples"]
    noise = comfy.sample.prepare_noise(latent, 1)
    try:
        comfy.sample.sample_custom(model, noise, CFG, sampler, sigmas, *prompts(), latent, disable_pbar=True)
    except comfy.model_management.InterruptProcessingException:
        return
    raise AssertionError("not interrupted")


def schedules_in_turn() -> dict[str, Tensor]:
    """Schedules of the pack and of the host on one model, which the host loads once."""
    model = load()
    models = {
        "kolors": model,
        "sdxl": sampling.set_sampling(model, "sdxl"),
        "lcm": nodes_model_advanced.ModelSamplingDiscrete().patch(model, "lcm", False)[0],
    }
    found = {}
    for turn in range(2):
        found |= {f"{name} {turn}": draw_stock(models[name]) for name in models}
    for name in models:
        assert torch.equal(found[f"{name} 0"], found[f"{name} 1"]), f"{name} is not repeated"
    return found


CASES = {
    "schedules in turn": schedules_in_turn,
    "two models in turn": in_turn,
    "unloaded and again": unloaded,
    "interrupted and again": interrupted,
}
