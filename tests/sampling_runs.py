"""One sampling run by our node's function and one by diffusers' pipeline, from the same first noise."""

from __future__ import annotations

import torch
from comfyui_kolors.demo.random_models import TINY
from reference import build_pipeline, build_scheduler

SCALE = 0.13025  # of SDXL latents, between the host's and the model's
DETERMINISTIC = ("euler", "dpmpp_2m", "dpmpp_2m_karras", "unipc", "deis")
STOCHASTIC = ("euler_ancestral", "dpmpp_2m_sde_karras", "lcm")
SEED = 7


def prompts(width: int | None = None):
    """(context, pooled) of a positive and a negative prompt, random; the host repeats one over the batch."""
    width = width or TINY.hidden
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(1, 256, width, generator=generator), torch.randn(1, width, generator=generator)) for _ in range(2)
    ]


def conditioning(width: int | None = None):
    return [[[context, {"pooled_output": pooled}]] for context, pooled in prompts(width)]


def ours(sampling, model, preset, steps, cfg=5.0, shape=(1, 4, 16, 16), denoise=1.0, image=None, **extra):
    """Final latents in the model's scale, by the node's own function."""
    latent = {"samples": torch.zeros(shape) if image is None else image / SCALE, **extra}
    return sampling.sample(model, SEED, steps, cfg, preset, *conditioning(), latent, denoise)["samples"] * SCALE


def theirs(unet, preset, steps, cfg=5.0, shape=(1, 4, 16, 16), denoise=None, image=None, **options):
    kind = "text" if denoise is None else "image"
    scheduler = build_scheduler(preset, **options.pop("scheduler", {}))
    pipe = build_pipeline(unet, scheduler, options.pop("kind", kind))
    states = [state.expand(shape[0], *state.shape[1:]) for pair in zip(*prompts()) for state in pair]
    pipe.encode_prompt = lambda **given: states  # its image-to-image pipeline forgets states that it is given
    size = (shape[2] * 8, shape[3] * 8)
    if denoise is not None:  # its sizes default to the UNet's, not to those of the image
        options |= {"image": image, "strength": denoise, "original_size": size, "target_size": size}
    else:
        options |= {"height": size[0], "width": size[1]}
    return run(pipe, states, cfg, num_inference_steps=steps, **options)


def run(pipe, states, cfg, **options) -> torch.Tensor:
    """Final latents of one call of a Kolors pipeline with text states [positive, negative] x [context, pooled]."""
    context, negative, pooled, negative_pooled = states
    return pipe(
        prompt_embeds=context,
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=negative,
        negative_pooled_prompt_embeds=negative_pooled,
        guidance_scale=cfg,
        output_type="latent",
        **{"num_inference_steps": 10, "generator": torch.Generator().manual_seed(SEED)} | options,
    ).images
