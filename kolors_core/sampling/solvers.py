"""The three of the reference's solvers that the host has no equal of, as ordinary k-diffusion sampler functions.

All are called like the host's own: ``model(x, sigma, **extra_args)`` returns the denoised latent, `x` carries noise of
``sigmas[0]``, and the result stands at ``sigmas[-1]``. In these coordinates (x = x0 + sigma * noise) a sample is the
reference's divided by alpha = 1 / sqrt(sigma^2 + 1), and lambda = -log(sigma).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import trange

#: model(x, sigma, **extra_args): x (b, ...) and sigma (b,) to the denoised latent (b, ...).
Denoiser = Callable[..., Tensor]
#: Called after every model call with x, i, sigma, sigma_hat and denoised.
Callback = Callable[[dict[str, Any]], None]

SIGMA_DATA = 0.5  # of LCM's boundary scaling
TIMESTEP_SCALING = 10.0  # the same


def _denoise(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    i: int,
    extra_args: Mapping[str, Any] | None,
    callback: Callback | None,
) -> Tensor:
    """One model call, shown to the callback as the host expects it."""
    denoised = model(x, sigmas[i] * x.new_ones(len(x)), **(extra_args or {}))
    if callback is not None:
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
    return denoised


@torch.no_grad()
def sample_unipc(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
) -> Tensor:
    """UniPC of order 2 with B(h) = e^h - 1 ("bh2"), predicting x0, first order in the first and the last step.

    Source: Zhao et al., "UniPC" (2023), algorithms 5 to 8; diffusers' UniPCMultistepScheduler with its defaults.
    """
    history: list[tuple[Tensor, Tensor]] = []  # (sigma, denoised), the newest last
    start: Tensor | None = None
    order = 1
    last_step = len(sigmas) - 2
    for i in trange(len(sigmas) - 1, disable=disable):
        denoised = _denoise(model, x, sigmas, i, extra_args, callback)
        if start is not None:  # correct the step that led here, now that its end has been denoised
            x = _unipc_step(start, sigmas[i], history[-order:], denoised)
        history = [*history[-1:], (sigmas[i], denoised)]
        order = 1 if i in (0, last_step) else 2
        start = x
        x = _unipc_step(start, sigmas[i + 1], history[-order:])
    return x


def _unipc_step(
    x: Tensor, sigma: Tensor, history: list[tuple[Tensor, Tensor]], corrector: Tensor | None = None
) -> Tensor:
    """From `x`, which stands at the newest sigma of `history`, to `sigma`, where `corrector` has been denoised."""
    start, newest = history[-1]
    h = (start / sigma).log()
    base = torch.expm1(-h)  # both h_phi_1 and B(h)
    step = x * (sigma / start) - base * newest
    if len(history) == 1:
        return step if corrector is None else step - base * 0.5 * (corrector - newest)
    before, oldest = history[0]
    ratio = (start / before).log() / h  # of the step before to this one, negative
    slope = (oldest - newest) / ratio
    if corrector is None:
        return step - base * 0.5 * slope
    phi = base / -h - 1
    first, second = phi / base, 2 * (phi / -h - 0.5) / base
    weight = (first - second) / (1 - ratio)
    return step - base * (weight * slope + (first - weight) * (corrector - newest))


@torch.no_grad()
def sample_deis(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    first_order_end: bool = False,
) -> Tensor:
    """DEIS of order 2 in log rho; it ends above zero, and the result is scaled to the reference's coordinates there.

    first_order_end: take the last step at first order, as the reference does in runs of fewer than 15 steps.
    Source: Zhang and Chen, "DEIS" (2023); diffusers' DEISMultistepScheduler with its defaults.
    """
    previous: tuple[Tensor, Tensor] | None = None  # (sigma, noise prediction)
    last_step = len(sigmas) - 2
    for i in trange(len(sigmas) - 1, disable=disable):
        here, there = sigmas[i], sigmas[i + 1]
        noise = (x - _denoise(model, x, sigmas, i, extra_args, callback)) / here
        if previous is None or (first_order_end and i == last_step):
            x = x + (there - here) * noise
        else:
            before, older = previous
            x = x + _log_integral(there, here, before) * noise + _log_integral(there, before, here, here) * older
        previous = (here, noise)
    return x / (sigmas[-1] ** 2 + 1) ** 0.5


def _log_integral(stop: Tensor, one: Tensor, zero: Tensor, start: Tensor | None = None) -> Tensor:
    """Integral from `start` (default `one`) to `stop` of the line in log sigma that is 1 at `one` and 0 at `zero`."""

    def primitive(sigma: Tensor) -> Tensor:
        return sigma * (sigma.log() - zero.log() - 1) / (one.log() - zero.log())

    return primitive(stop) - primitive(one if start is None else start)


@torch.no_grad()
def sample_lcm(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    train_steps: Sequence[int],
    noise_sampler: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """LCM: each step denoises to the end, and all but the last, which ends at 0, add new noise of the next sigma.

    train_steps: those of ``sigmas[:-1]``, for the boundary scaling, by which train step 0 leaves a latent as it is.
    Source: Luo et al., "Latent Consistency Models" (2023), algorithm 3; diffusers' LCMScheduler with its defaults.
    """
    last_step = len(sigmas) - 2
    for i in trange(len(sigmas) - 1, disable=disable):
        denoised = _denoise(model, x, sigmas, i, extra_args, callback)
        scaled_step = train_steps[i] * TIMESTEP_SCALING
        root = (scaled_step**2 + SIGMA_DATA**2) ** 0.5
        sample = x / (sigmas[i] ** 2 + 1) ** 0.5  # in the reference's coordinates
        x = scaled_step / root * denoised + (SIGMA_DATA / root) ** 2 * sample
        if i < last_step:
            x = x + sigmas[i + 1] * noise_sampler(sigmas[i], sigmas[i + 1])
    return x
