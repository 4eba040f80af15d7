"""The sampler bridge against diffusers' Kolors pipelines: the same noise gives the same latents."""

import types

import pytest
import torch
from comfyui_kolors.kolors_core.errors import KolorsError
from reference import LATENT_TOLERANCE, TOLERANCE, relative_error
from sampling_runs import DETERMINISTIC, SEED, STOCHASTIC, ours, theirs

pytestmark = pytest.mark.host


@pytest.mark.parametrize("preset", DETERMINISTIC)
@pytest.mark.parametrize("steps", [10, 25])
@pytest.mark.parametrize("cfg", [1.0, 5.0, 6.5])
def test_text_to_image_equals_the_reference(sampling, model, unet, preset, steps, cfg):
    found = ours(sampling, model, preset, steps, cfg)
    assert relative_error(found, theirs(unet, preset, steps, cfg)) <= LATENT_TOLERANCE


@pytest.mark.parametrize("preset", DETERMINISTIC)
def test_batches_and_other_shapes_equal_the_reference(sampling, model, unet, preset):
    shape = (2, 4, 16, 24)
    found = ours(sampling, model, preset, 10, shape=shape)
    assert relative_error(found, theirs(unet, preset, 10, shape=shape)) <= LATENT_TOLERANCE
    assert relative_error(found[0], found[1]) > 0.1


@pytest.mark.parametrize("preset", DETERMINISTIC)
@pytest.mark.parametrize("strength", [0.3, 0.6, 0.9, 1.0])
def test_image_to_image_equals_the_reference(sampling, model, unet, preset, strength):
    image = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5)) * 0.5
    found = ours(sampling, model, preset, 25, denoise=strength, image=image)
    assert relative_error(found, theirs(unet, preset, 25, denoise=strength, image=image)) <= TOLERANCE


@pytest.mark.parametrize("preset", STOCHASTIC)
@pytest.mark.parametrize("steps", [10, 25])
def test_stochastic_presets_draw_the_references_noise(sampling, model, unet, preset, steps):
    """The generator goes on after the first noise, so a seed on the CPU means the same trajectory as in diffusers."""
    found = ours(sampling, model, preset, steps)
    assert relative_error(found, theirs(unet, preset, steps)) <= LATENT_TOLERANCE


@pytest.mark.parametrize("preset", STOCHASTIC)
def test_stochastic_image_to_image_equals_the_reference(sampling, model, unet, preset):
    image = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5)) * 0.5
    found = ours(sampling, model, preset, 10, denoise=0.6, image=image)
    assert relative_error(found, theirs(unet, preset, 10, denoise=0.6, image=image)) <= LATENT_TOLERANCE


@pytest.mark.parametrize("preset", STOCHASTIC)
def test_stochastic_presets_have_the_references_statistics(sampling, model, unet, preset):
    """Mean and variance over 64 images, those of the reference from another seed."""
    shape, steps = (64, 4, 8, 8), 4
    found = ours(sampling, model, preset, steps, shape=shape)
    expected = theirs(unet, preset, steps, shape=shape, generator=torch.Generator().manual_seed(SEED + 1))
    assert relative_error(found, expected) > 0.1
    spread = expected.std()
    assert (found.mean(0) - expected.mean(0)).abs().mean() < 0.25 * spread  # 64 draws: 1 / 8 of the spread each
    assert abs(found.mean() - expected.mean()) < 0.05 * spread
    assert found.std() / spread == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_perturbed_attention_guidance_equals_the_reference(sampling, model, unet, scale):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    result = PerturbedAttentionGuidance.execute(model, scale) if hasattr(PerturbedAttentionGuidance, "execute") else (
        PerturbedAttentionGuidance().patch(model, scale)
    )  # fmt: skip
    processors = dict(unet.attn_processors)
    try:
        expected = theirs(unet, "euler", 10, kind="pag", pag_scale=scale)
    finally:
        unet.set_attn_processor(processors)
    found = ours(sampling, result[0], "euler", 10)
    assert relative_error(found, expected) <= LATENT_TOLERANCE
    assert relative_error(ours(sampling, model, "euler", 10), expected) > 10 * LATENT_TOLERANCE


@pytest.mark.parametrize(("cfg", "rows"), [(1.0, 1), (5.0, 2)])
def test_guidance_one_calls_the_unet_once_a_step(sampling, model, cfg, rows):
    calls = []
    hook = model.model.diffusion_model.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    try:
        ours(sampling, model, "euler", 10, cfg)
    finally:
        hook.remove()
    assert calls == [rows] * 10


@pytest.mark.parametrize("sigma", [3.0, 29.06, 40.0])
def test_the_first_noise_is_scaled_only_over_no_image(sampling, sigma):
    """By sqrt(sigma^2 + 1); over an image it is sigma, at the largest of the table too."""
    seen = []
    solve = sampling.scale_first_noise(lambda model, x, sigmas: seen.append(x), torch.tensor([True, False])[:, None])
    run = types.SimpleNamespace(noise=torch.ones(2, 1), latent_image=torch.tensor([[0.0], [2.0]]))
    solve(run, torch.full((2, 1), torch.nan), torch.tensor([sigma, 0.0]))
    assert torch.allclose(seen[0].flatten(), torch.tensor([(sigma**2 + 1) ** 0.5, 2 + sigma]))


def test_an_interrupt_ends_sampling_within_a_step(sampling, model):
    import comfy.model_management
    import comfy.utils

    def check(*args, **kwargs):  # the hook of the server; the oldest host looks for interrupts nowhere else
        comfy.model_management.throw_exception_if_processing_interrupted()

    comfy.utils.set_progress_bar_global_hook(check)
    calls = []

    def interrupt(module, args):
        calls.append(1)
        if len(calls) == 3:
            comfy.model_management.interrupt_current_processing()

    hook = model.model.diffusion_model.register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            ours(sampling, model, "unipc", 10, 1.0)
    finally:
        hook.remove()
        comfy.utils.set_progress_bar_global_hook(None)
        comfy.model_management.interrupt_current_processing(False)
    assert len(calls) <= 4


@pytest.mark.parametrize("preset", [*DETERMINISTIC, *STOCHASTIC])
@pytest.mark.parametrize(("steps", "shape"), [(1, (1, 4, 16, 16)), (2, (1, 4, 1, 1)), (3, (1, 4, 9, 13))])
def test_edge_cases_give_a_finite_latent(sampling, model, preset, steps, shape):
    found = ours(sampling, model, preset, steps, shape=shape)
    assert found.shape == shape
    assert found.isfinite().all()


@pytest.mark.parametrize("denoise", [0.0, 1e-3])
def test_no_step_left_passes_the_latent_on(sampling, model, denoise, caplog):
    image = torch.ones(1, 4, 8, 8)
    assert torch.allclose(ours(sampling, model, "euler", 25, denoise=denoise, image=image), image)
    assert "leave no step to run" in caplog.text


def test_a_noise_mask_keeps_the_rest(sampling, model):
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    found = ours(sampling, model, "dpmpp_2m_karras", 4, denoise=0.75, image=image, noise_mask=mask)
    assert torch.allclose(found[..., 5:], image[..., 5:], atol=1e-5)
    assert not torch.allclose(found[..., :4], image[..., :4], atol=0.1)


def test_the_schedule_is_switched_on_a_clone(sampling, model):
    import comfy.model_sampling

    before = ours(sampling, model, "euler", 4)
    sdxl = sampling.set_sampling(model, "sdxl")
    assert sampling.train_table(sdxl).shape == (1000,)
    assert sampling.train_table(sdxl)[-1] == pytest.approx(14.61, abs=0.01)
    assert torch.equal(sampling.train_table(model), sampling.train_table(sampling.set_sampling(sdxl, "kolors")))
    assert isinstance(sdxl.get_model_object("model_sampling"), comfy.model_sampling.ModelSamplingDiscrete)
    assert relative_error(ours(sampling, sdxl, "euler", 4), before) > 0.01
    assert torch.equal(ours(sampling, model, "euler", 4), before)


def test_a_model_without_train_steps_is_named(sampling, model):
    import comfy.model_sampling

    class Flow(comfy.model_sampling.ModelSamplingFlux, comfy.model_sampling.CONST):
        pass

    flow = model.clone()
    flow.add_object_patch("model_sampling", Flow())
    with pytest.raises(KolorsError, match=r"need a model with train steps.*ModelSamplingFlux"):
        sampling.build_sigmas(flow, "euler", 10, 1.0)


@pytest.mark.parametrize("steps", [10, 20, 25, 50])
def test_stock_ddim_uniform_visits_the_references_euler_steps(model, steps):
    """What the readme and the templates say of KSampler's scheduler."""
    import comfy.samplers
    from comfyui_kolors.kolors_core.sampling import schedule

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", steps)
    assert sampling.timestep(sigmas[:-1]).tolist() == schedule.timesteps("euler", steps).tolist()
