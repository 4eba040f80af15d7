"""Our solvers against diffusers' step functions, with a cheap stand-in for the model."""

from functools import partial

import pytest
import torch
from comfyui_kolors.kolors_core.sampling import schedule
from comfyui_kolors.kolors_core.sampling import solvers as samplers
from reference import build_scheduler, relative_error

MIX = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) * 0.3


def predict_noise(x, sigma):
    """A smooth function of latent and sigma, not a good denoiser but as nonlinear as one."""
    scaled = x / (sigma**2 + 1) ** 0.5
    return torch.tanh(torch.einsum("ij,bjhw->bihw", MIX, scaled)) + 0.5 * scaled * sigma / (1 + sigma)


def denoise(x, sigma, **extra):
    return x - sigma.view(-1, 1, 1, 1) * predict_noise(x, sigma[0])


def run_reference(preset, x, steps, strength):
    reference = build_scheduler(preset)
    reference.set_timesteps(steps)
    skipped = steps - schedule.kept_steps(steps, strength)
    reference.set_begin_index(skipped)
    sample = x / (reference.sigmas[skipped] ** 2 + 1) ** 0.5
    for i in range(skipped, steps):
        sigma = reference.sigmas[i]
        noise = predict_noise(sample * (sigma**2 + 1) ** 0.5, sigma)
        sample = reference.step(noise, reference.timesteps[i], sample, return_dict=False)[0]
    return sample


@pytest.mark.parametrize("preset", ["unipc", "deis"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 14, 15, 25])
@pytest.mark.parametrize("strength", [1.0, 0.6, 0.4])
def test_equal_to_the_reference(preset, steps, strength):
    sigmas = schedule.sigmas(preset, steps, strength)
    if not len(sigmas):
        assert steps * strength < 1
        return
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * sigmas[0]
    solver = {"unipc": samplers.sample_unipc, "deis": samplers.sample_deis}[preset]
    options = {"first_order_end": steps < 15} if preset == "deis" else {}
    assert (
        relative_error(solver(denoise, x, sigmas, disable=True, **options), run_reference(preset, x, steps, strength))
        <= 1e-5
    )


@pytest.mark.parametrize("timesteps", [[1099, 813, 549, 263], [1099], [999, 500, 1, 0], [0]], ids=str)
def test_lcm_equals_the_reference(timesteps):
    """Down to train step 0, where the boundary scaling leaves a latent as it is."""
    reference = build_scheduler("lcm")
    reference.set_timesteps(timesteps=timesteps)
    sigmas = torch.cat([schedule.train_sigmas()[timesteps], torch.zeros(1)])
    sample = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    x = sample * (sigmas[0] ** 2 + 1) ** 0.5
    generator = torch.Generator().manual_seed(2)
    for sigma, timestep in zip(sigmas, reference.timesteps):
        noise = predict_noise(sample * (sigma**2 + 1) ** 0.5, sigma)
        sample = reference.step(noise, timestep, sample, generator, return_dict=False)[0]
    ours, drawn = torch.Generator().manual_seed(2), []

    def draw(sigma, sigma_next):
        drawn.append((sigma.item(), sigma_next.item()))
        return torch.randn(1, 4, 8, 8, generator=ours)

    found = samplers.sample_lcm(denoise, x, sigmas, disable=True, train_steps=timesteps, noise_sampler=draw)
    assert relative_error(found, sample) <= 1e-5
    assert drawn == list(zip(sigmas[:-2].tolist(), sigmas[1:-1].tolist()))
    assert torch.equal(ours.get_state(), generator.get_state())


def draw_nothing(sigma, sigma_next):
    return torch.zeros(3, 4, 8, 8)


LCM = partial(samplers.sample_lcm, train_steps=[9, 7, 5, 3, 1], noise_sampler=draw_nothing)


@pytest.mark.parametrize("solver", [samplers.sample_unipc, samplers.sample_deis, LCM], ids=["unipc", "deis", "lcm"])
def test_the_host_sees_every_step_and_passes_its_arguments(solver):
    sigmas = schedule.sigmas("unipc", 5)
    sigmas[-1] = 0.03
    seen, given = [], []

    def model(x, sigma, **extra):
        given.append((sigma.shape, extra))
        return denoise(x, sigma)

    solver(model, torch.ones(3, 4, 8, 8), sigmas, extra_args={"seed": 1}, callback=seen.append, disable=True)
    assert given == [((3,), {"seed": 1})] * 5
    assert [(step["i"], step["sigma"].item()) for step in seen] == [(i, sigmas[i].item()) for i in range(5)]
    assert seen[0]["denoised"].shape == seen[0]["x"].shape
