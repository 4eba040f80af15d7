"""The reference's sampling in the host's terms: SIGMAS, SAMPLER, and a model's choice of noise schedule."""

from __future__ import annotations

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.supported_models
import comfy.utils
import latent_preview
import torch
from comfy.patcher_extension import CallbacksMP

from ..errors import KolorsError, check_numbers, log
from ..sampling import schedule, solvers
from . import compat
from .unet import KolorsConfig, KolorsSampling

#: The solver of each preset: the host's own by name where it has an equal one.
SOLVERS = {
    "euler": "euler",
    "euler_ancestral": "euler_ancestral",
    "dpmpp_2m": "dpmpp_2m",
    "dpmpp_2m_karras": "dpmpp_2m",
    "dpmpp_2m_sde_karras": "dpmpp_2m_sde",
    "unipc": solvers.sample_unipc,
    "deis": solvers.sample_deis,
}
STOCHASTIC = ("euler_ancestral", "dpmpp_2m_sde_karras")
FEW_STEPS = 15  # below, the reference takes DEIS' last step at first order


class FullNoiseSampler(comfy.samplers.KSAMPLER):
    """A sampler whose run starts from noise alone, whatever its first sigma; for an empty latent.

    The reference scales the first noise by sqrt(sigma^2 + 1) for every schedule, while the host does so only at the
    largest sigma of its table, above which Kolors' leading schedules all start.
    """

    def max_denoise(self, model_wrap, sigmas):
        return True


class StepNoise:
    """Noise of a stochastic solver's steps: what the seed's generator draws after the first noise, as in the reference.

    The host starts its ancestral noise from the seed again, so that on a CPU the first step adds the very noise that
    the run began with, which some versions avoid.
    """

    def __init__(self, seed: int, shape: torch.Size, device):
        self.generator = torch.Generator().manual_seed(seed)
        self.shape, self.device = shape, device
        self(None, None)  # the first noise, drawn by the host

    def __call__(self, sigma, sigma_next) -> torch.Tensor:
        return torch.randn(self.shape, generator=self.generator).to(self.device)


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


def build_sigmas(model, preset: str, steps: int, denoise: float) -> torch.Tensor:
    """SIGMAS of a preset: the last int(steps * denoise) of `steps`, and the end. Empty where no step is left."""
    check_numbers(denoise=denoise)
    return schedule.sigmas(preset, steps, denoise, train_table(model))


def build_sampler(preset: str, steps: int, from_noise: bool, noise_sampler=None) -> comfy.samplers.KSAMPLER:
    """SAMPLER of a preset for a schedule of `steps`.

    from_noise: there is no image under the first noise.
    noise_sampler: where a stochastic preset takes its noise from, the host's choice by default.
    """
    solver = SOLVERS[preset]
    options = {}
    if solver is solvers.sample_deis:
        options["first_order_end"] = steps < FEW_STEPS
    if noise_sampler is not None and preset in STOCHASTIC:
        options["noise_sampler"] = noise_sampler
    function = comfy.samplers.ksampler(solver).sampler_function if isinstance(solver, str) else solver
    return (FullNoiseSampler if from_noise else comfy.samplers.KSAMPLER)(function, options)


def sample(model, seed, steps, cfg, preset, positive, negative, latent, denoise):
    """Sample a LATENT with a preset, as the stock KSampler does with its own schedules."""
    check_numbers(cfg=cfg)
    sigmas = build_sigmas(model, preset, steps, denoise)
    if len(sigmas) == 0:
        log.warning(
            "[Kolors] %d steps at denoise %g leave no step to run: the latent is passed on as it is.", steps, denoise
        )
        return latent
    image = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    from_noise = denoise >= 1.0 and not torch.count_nonzero(image)  # over an image the reference adds plain sigma
    samples = comfy.sample.sample_custom(
        model,
        comfy.sample.prepare_noise(image, seed, latent.get("batch_index")),
        cfg,
        build_sampler(preset, steps, from_noise, StepNoise(seed, image.shape, model.load_device)),
        sigmas,
        positive,
        negative,
        image,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, len(sigmas) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return latent | {"samples": samples}


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


class SDXLSampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """SDXL's own schedule on a Kolors model."""

    sigmas: torch.Tensor
