"""The preset lcm against diffusers' LCMScheduler, at the few steps that it is for."""

import pytest
import torch
from comfyui_kolors.kolors_core.errors import KolorsError
from reference import SDXL_TABLE, TOLERANCE, relative_error
from sampling_runs import SCALE, SEED, conditioning, ours, theirs

pytestmark = pytest.mark.host


def picture(count: int = 1) -> torch.Tensor:
    return torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(5)) * 0.5


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 50])
@pytest.mark.parametrize("cfg", [1.0, 1.5])
def test_text_to_image_equals_the_reference(sampling, model, unet, steps, cfg):
    found = ours(sampling, model, "lcm", steps, cfg)
    assert relative_error(found, theirs(unet, "lcm", steps, cfg)) <= TOLERANCE


@pytest.mark.parametrize("steps", [4, 8])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_image_to_image_equals_the_reference(sampling, model, unet, steps, strength):
    found = ours(sampling, model, "lcm", steps, 1.5, denoise=strength, image=picture())
    assert relative_error(found, theirs(unet, "lcm", steps, 1.5, denoise=strength, image=picture())) <= TOLERANCE


@pytest.mark.parametrize("strength", [None, 0.6])
def test_a_batch_equals_the_reference_with_a_generator_for_each_image(sampling, model, unet, strength):
    image = None if strength is None else picture(2)
    generators = [torch.Generator().manual_seed(sampling.image_seed(SEED, index)) for index in range(2)]
    expected = theirs(unet, "lcm", 4, shape=(2, 4, 16, 16), denoise=strength, image=image, generator=generators)
    found = ours(sampling, model, "lcm", 4, shape=(2, 4, 16, 16), denoise=strength or 1.0, image=image)
    assert relative_error(found, expected) <= TOLERANCE


@pytest.mark.parametrize("steps", [[999, 749, 499, 249], [700, 300], [400, 1, 0]], ids=str)
def test_train_steps_of_ones_own_equal_the_reference(sampling, model, unet, steps):
    """Their SIGMAS in the preset's solver."""
    import comfy.sample

    sigmas = sampling.build_sigmas(model, "lcm", 8, 1.0, str(steps)[1:-1])
    latent = torch.zeros(1, 4, 16, 16)
    noise = sampling.ImageNoise(SEED, [0], latent.shape, model.load_device)
    first = noise().cpu()
    solver = sampling.build_sampler(model, "lcm", len(steps), sigmas, torch.ones(1, 1, 1, 1, dtype=torch.bool), noise)
    found = comfy.sample.sample_custom(model, first, 1.5, solver, sigmas, *conditioning(), latent, seed=SEED)
    assert relative_error(found * SCALE, theirs(unet, "lcm", 8, 1.5, timesteps=steps)) <= TOLERANCE


@pytest.mark.parametrize("steps", [1, 4, 8, 50])
def test_sdxls_table_equals_the_reference(sampling, model, unet, steps):
    """What SDXL's LCM LoRA was trained with: of 1000 train steps every 20th, from 999 on."""
    sdxl = sampling.set_sampling(model, "sdxl")
    found = ours(sampling, sdxl, "lcm", steps, 1.5)
    assert relative_error(found, theirs(unet, "lcm", steps, 1.5, scheduler=SDXL_TABLE)) <= TOLERANCE


def test_the_hosts_distilled_table_has_the_train_steps_of_the_whole_one(sampling, model):
    """Its 50 sigmas are those of lcm; the boundary scaling counts the train steps behind them, down to 21."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (distilled,) = ModelSamplingDiscrete().patch(model, "lcm", False)
    for steps in (4, 50):
        assert relative_error(ours(sampling, distilled, "lcm", steps), ours(sampling, model, "lcm", steps)) <= TOLERANCE


def test_more_than_50_steps_are_refused_in_a_sentence(sampling, model):
    said = r"^lcm has 1 to 50 steps, not 60\. Set steps within that range\.$"
    with pytest.raises(KolorsError, match=said):
        sampling.build_sigmas(model, "lcm", 60, 1.0)
    with pytest.raises(KolorsError, match=said):
        sampling.sample(model, 1, 60, 1.5, "lcm", *conditioning(), {"samples": torch.zeros(1, 4, 8, 8)}, 1.0)
