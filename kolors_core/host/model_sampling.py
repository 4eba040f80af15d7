"""The noise schedules of a Kolors model, and what diffusers does with one that the host does in another way.

Both start from the host's table of sigmas. The figures behind the differences stand in docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_sampling
import torch
from torch import Tensor

#: Solvers, by the beginning of their names in the host, whose schedulers in the reference call the UNet at whole steps.
ROUNDING_SOLVERS = ("sample_dpmpp", "sample_unipc", "sample_deis")
SAME_SIGMA = 2e-5  # relative; the reference's table and the host's are up to 1.3e-5 apart


class ReferenceSampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """Epsilon prediction whose runs begin, and whose steps lie, where the reference's do.

    rounds: the UNet is called at the nearest whole train step, as in the reference's DPM-Solver over Karras' sigmas and
    in the host; else between two, as in the reference's Euler.
    """

    sigmas: Tensor
    log_sigmas: Tensor
    rounds = False

    def noise_scaling(self, sigma, noise, latent_image, max_denoise=None):
        """Noise over a latent (b, ...): of sqrt(sigma^2 + 1) at the start of a run over no image, else by the host.

        The host scales so at the largest sigma of its table only. It tells `max_denoise` at the start of a run, with a
        sigma for all images, and in training, with one for each; not where it blends a mask or adds noise between
        steps.
        """
        over_image = super().noise_scaling(sigma, noise, latent_image, bool(max_denoise))
        if max_denoise is None or sigma.ndim:
            return over_image
        is_image = latent_image.flatten(1).any(1).reshape(-1, *[1] * (noise.ndim - 1))
        return torch.where(is_image, over_image, super().noise_scaling(sigma, noise, latent_image, True))

    def timestep(self, sigma):
        """Train steps of sigmas, of their shape: linear in log sigma between two of the table, whole at one of it."""
        nearest = super().timestep(sigma)
        if self.rounds:
            return nearest
        here = nearest.to(self.log_sigmas.device)
        away = sigma.to(here.device).log() - self.log_sigmas[here]
        other = (here + away.sign().long()).clamp(0, len(self.log_sigmas) - 1)
        share = away / (self.log_sigmas[other] - self.log_sigmas[here]).abs()
        share = torch.where((other == here) | (away.abs() < SAME_SIGMA), 0.0, share)  # also beyond either end
        return nearest + share.to(nearest.device)


@contextmanager
def whole_steps(sampling) -> Iterator[None]:
    """A run in which `sampling`, where it is ours, rounds."""
    if not isinstance(sampling, ReferenceSampling):
        yield
        return
    sampling.rounds = True
    try:
        yield
    finally:
        sampling.rounds = False


def round_by_solver(executor, guider, *inputs, **options):
    """The host's run of a sampler on a MODEL of ours, with the UNet called as the solver's scheduler in the reference.

    Called by the host around ``Sampler.sample``.
    """
    function = getattr(executor.class_obj, "sampler_function", None)
    if not getattr(function, "__name__", "").startswith(ROUNDING_SOLVERS):
        return executor(guider, *inputs, **options)
    with whole_steps(guider.inner_model.model_sampling):
        return executor(guider, *inputs, **options)


class KolorsSampling(ReferenceSampling):
    """The noise schedule of Kolors: over 1100 steps."""

    def percent_to_sigma(self, percent):
        """Sigma at a share of the schedule. The host counts on 1000 steps here, which would cut Kolors' first 9%."""
        if percent <= 0.0:
            return 999999999.9
        if percent >= 1.0:
            return 0.0
        return self.sigma(torch.tensor((1.0 - percent) * (self.num_timesteps - 1))).item()


class SDXLSampling(ReferenceSampling):
    """SDXL's own schedule on a Kolors model."""
