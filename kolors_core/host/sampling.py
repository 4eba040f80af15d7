"""The reference's sampling in the host's terms: SIGMAS, SAMPLER, and a model's choice of noise schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.supported_models
import comfy.utils
import latent_preview
import node_helpers
import torch
from comfy.patcher_extension import CallbacksMP

from ..errors import KolorsError, check_numbers, log, shorten
from ..sampling import schedule, solvers
from . import compat
from .messages import warn_once
from .model_sampling import KolorsSampling, SDXLSampling, whole_steps
from .text_encoder.conditioning import is_empty_prompt
from .unet import KolorsConfig

#: The solver of each preset: the host's own by name where it has an equal one.
SOLVERS = {
    "euler": "euler",
    "euler_ancestral": "euler_ancestral",
    "dpmpp_2m": "dpmpp_2m",
    "dpmpp_2m_karras": "dpmpp_2m",
    "dpmpp_2m_sde_karras": "dpmpp_2m_sde",
    "unipc": solvers.sample_unipc,
    "deis": solvers.sample_deis,
    "lcm": solvers.sample_lcm,
}
STOCHASTIC = ("euler_ancestral", "dpmpp_2m_sde_karras", "lcm")
FEW_STEPS = 15  # below, the reference takes DEIS' last step at first order


class ImageNoise:
    """Noise of a stochastic preset: call by call the first noise and that of each step, (images, ...) float32.

    Each image has a generator of its own, as in the reference given a list of them, so that it does not depend on what
    is sampled beside it. One generator would not do: what it draws for an image depends on their number. Nor would the
    host's first noise of each index, which index 0 draws again in its steps; nor the host's ancestral noise, which
    starts from the seed again, so that on a CPU the first step adds the very noise that the run began with, which some
    versions avoid.
    """

    def __init__(self, seed: int, indices: list[int], shape: torch.Size, device):
        self.generators = [torch.Generator().manual_seed(image_seed(seed, index)) for index in indices]
        self.shape, self.device = (1, *shape[1:]), device

    def __call__(self, sigma=None, sigma_next=None) -> torch.Tensor:
        noise = [torch.randn(self.shape, generator=generator) for generator in self.generators]
        return torch.cat(noise).to(self.device)


def image_seed(seed: int, index: int) -> int:
    """Seed of an image of a batch: from index 1 on a hash, so that it is that of no other image."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed} {index}".encode(), digest_size=8).digest(), "big")


def batch_indices(latent, count: int) -> list[int]:
    """The index of each of the `count` images of a LATENT in the batch that it was taken from.

    Raises KolorsError where it has no index for each.
    """
    found = latent.get("batch_index")
    indices = torch.as_tensor(range(count) if found is None else found).flatten().tolist()
    if not indices or min(indices) < 0 or count not in (1, len(indices)):
        raise KolorsError(
            f"The batch_index of the LATENT is {shorten(map(str, indices)) or 'empty'}; the LATENT has {count} images. "
            "Expected an index from 0 for each image. Take images out of a batch with 'Latent From Batch'."
        )
    return indices


def train_table(model) -> torch.Tensor:
    """Sigmas of the train steps that `model` was given: Kolors' in the reference's digits, or those of a model patch.

    Raises KolorsError where the model has no such table.
    """
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, KolorsSampling):
        return schedule.train_sigmas()
    if isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete):
        return torch.as_tensor(sampling.sigmas).cpu()
    raise KolorsError(
        f"The reference's schedules need a model with train steps, such as Kolors or SDXL; this one samples by "
        f"{type(sampling).__mro__[1].__name__}. Connect the MODEL of 'Load Kolors UNet'."
    )


def build_sigmas(model, preset: str, steps: int, denoise: float, timesteps: str = "") -> torch.Tensor:
    """SIGMAS of a preset: the last int(steps * denoise) of `steps`, and the end. Empty where no step is left.

    timesteps: train steps of the user's own, in the place of `steps`.
    """
    check_numbers(denoise=denoise)
    return schedule.sigmas(preset, steps, denoise, train_table(model), timesteps)


def build_sampler(
    model, preset: str, steps: int, sigmas: torch.Tensor, from_noise: torch.Tensor, step_noise: ImageNoise | None = None
) -> comfy.samplers.KSAMPLER:
    """SAMPLER of a preset for the `sigmas` that are run of a schedule of `steps`.

    from_noise: bool (b, 1, 1, 1), whether there is no image under the first noise.
    step_noise: of a stochastic preset; the host's own by default.
    """
    solver = SOLVERS[preset]
    options = {}
    if solver is solvers.sample_deis:
        options["first_order_end"] = steps < FEW_STEPS
    if solver is solvers.sample_lcm:
        sampling = model.get_model_object("model_sampling")
        options["train_steps"] = sampling.timestep(sigmas[:-1]).tolist()
    if step_noise is not None:
        options["noise_sampler"] = step_noise
    function = comfy.samplers.ksampler(solver).sampler_function if isinstance(solver, str) else solver
    if schedule.PRESETS[preset].karras:
        function = at_whole_steps(function)
    return comfy.samplers.KSAMPLER(scale_first_noise(function, from_noise), options)


def at_whole_steps(function: Callable) -> Callable:
    """A solver in whose run the UNet is called at whole train steps."""

    def solve(model, x, sigmas, **options):
        with whole_steps(model.inner_model.inner_model.model_sampling):  # the guider's model, patched or not
            return function(model, x, sigmas, **options)

    return solve


def scale_first_noise(function: Callable, from_noise: torch.Tensor) -> Callable:
    """A solver whose run starts as the reference's, whatever its first sigma and whatever MODEL it is.

    That is from noise of sqrt(sigma^2 + 1) where `from_noise` says so, and else from noise of sigma over the latent. A
    latent of zeros does not say which, and the host's rule depends on the largest sigma of its table.
    """

    def solve(model, x, sigmas, **options):
        alone = model.noise * torch.sqrt(1.0 + sigmas[0] ** 2.0)
        over_latent = model.latent_image + model.noise * sigmas[0]
        return function(model, torch.where(from_noise.to(x.device), alone, over_latent), sigmas, **options)

    return solve


def sample(model, seed, steps, cfg, preset, positive, negative, latent, denoise):
    """Sample a LATENT with a preset, as the stock KSampler does with its own schedules.

    A UNet with a guidance embedding takes the cfg as its guidance, and no negative prompt.
    """
    check_numbers(cfg=cfg)
    if getattr(model.model, "takes_guidance", False):
        if not is_empty_prompt(negative):
            warn_once(
                "[Kolors] The negative prompt has no effect: this UNet has a guidance embedding, which takes the cfg."
            )
        positive, negative, cfg = node_helpers.conditioning_set_values(positive, {"guidance": cfg}), [], 1.0
    sigmas = build_sigmas(model, preset, steps, denoise)
    if len(sigmas) == 0:
        log.warning(
            "[Kolors] %d steps at denoise %g leave no step to run: the latent is passed on as it is.", steps, denoise
        )
        return latent
    image = compat.fix_empty_latent(model, latent)
    if image.is_nested:
        raise KolorsError(
            "The LATENT holds a video with its sound. Expected images. Take 'Empty Latent Image', or encode an image "
            "with 'VAE Encode'."
        )
    indices = batch_indices(latent, len(image))
    from_noise = image.flatten(1).count_nonzero(1) == 0  # over an image the reference adds plain sigma
    from_noise = (from_noise & (denoise >= 1.0)).reshape(-1, *[1] * (image.ndim - 1))
    noise = comfy.sample.prepare_noise(image, seed, indices)  # seeds torch as well, for patches that draw by themselves
    step_noise = None
    if preset in STOCHASTIC:
        step_noise = ImageNoise(seed, indices, image.shape, model.load_device)
        noise = step_noise().to(noise)
    samples = comfy.sample.sample_custom(
        model,
        noise,
        cfg,
        build_sampler(model, preset, steps, sigmas, from_noise, step_noise),
        sigmas,
        positive,
        negative,
        image,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, len(sigmas) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return {name: value for name, value in latent.items() if name not in compat.EMPTY_LATENT} | {"samples": samples}


def set_sampling(model, name: str):
    """A clone of `model` with the noise schedule of "kolors" or of "sdxl" (1000 steps, for SDXL's few-step LoRAs)."""
    settings = {"kolors": KolorsConfig, "sdxl": comfy.supported_models.SDXL}[name]
    sampling = (KolorsSampling if name == "kolors" else SDXLSampling)(settings)
    table = sampling.sigmas.clone()

    def keep_table(patcher, *options):
        """Undo what `compat.forget_schedule` prevents where a MODEL was loaded by another pack or by the host."""
        if patcher.model.model_sampling is sampling:
            sampling.set_sigmas(table.to(sampling.sigmas))
            compat.forget_schedule(patcher)

    clone = model.clone()
    clone.add_object_patch("model_sampling", sampling)
    clone.add_callback(CallbacksMP.ON_LOAD, keep_table)
    return clone
