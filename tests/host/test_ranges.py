"""Parts of a schedule and schedules of one's own, through the host's nodes, against diffusers' Kolors pipelines."""

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_unet
from comfyui_kolors.kolors_core.errors import KolorsError
from reference import SDXL_TABLE, TOLERANCE, relative_error
from safetensors.torch import save_file
from sampling_runs import SCALE, SEED, conditioning, ours, theirs
from stock_nodes import sample, stock

pytestmark = pytest.mark.host

STEPS = 25
SOLVERS = {"euler": "euler", "dpmpp_2m": "dpmpp_2m", "dpmpp_2m_karras": "dpmpp_2m"}
OWN = [[999, 749, 499, 249], [1099, 600, 100], [700, 300], [5, 0]]


def empty(count: int = 1):
    return {"samples": torch.zeros(count, 4, 16, 16)}


def picture(count: int = 1) -> torch.Tensor:
    return torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(5)) * 0.5


def run(model, sigmas, latent=None, noise_seed: int | None = SEED, solver="euler"):
    """A LATENT of SamplerCustomAdvanced."""
    return sample(model, sigmas, conditioning(), latent or empty(), noise_seed, sampler=solver)


def near(found, expected) -> bool:
    return relative_error(found, expected) <= TOLERANCE


@pytest.fixture(scope="module")
def second(sampling, tmp_path_factory):
    """Another UNet of diffusers', and the same as a MODEL."""
    import loaders

    unet = random_unet(TINY, seed=9)
    path = tmp_path_factory.mktemp("second") / "unet.safetensors"
    save_file(unet.state_dict(), path)
    return unet, loaders.load_unet(path)


# ---- whole schedules


@pytest.mark.parametrize("preset", SOLVERS)
@pytest.mark.parametrize("steps", [1, 10, 25])
def test_the_scheduler_in_the_stock_sampler_equals_the_reference(sampling, model, unet, preset, steps):
    """Where the first sigma is below the table's largest as well: the noise is scaled as in the reference."""
    found = run(model, sampling.build_sigmas(model, preset, steps, 1.0), solver=SOLVERS[preset])["samples"] * SCALE
    assert near(found, theirs(unet, preset, steps))


def test_the_stock_ksampler_equals_the_reference(model, unet):
    (found,) = stock("KSampler")(model, SEED, STEPS, 5.0, "euler", "ddim_uniform", *conditioning(), empty())
    assert near(found["samples"] * SCALE, theirs(unet, "euler", STEPS))


@pytest.mark.parametrize("denoise", [0.6, 1.0])
def test_image_to_image_in_the_stock_sampler_equals_the_reference(sampling, model, unet, denoise):
    sigmas = sampling.build_sigmas(model, "euler", STEPS, denoise)
    found = run(model, sigmas, {"samples": picture() / SCALE})["samples"] * SCALE
    assert near(found, theirs(unet, "euler", STEPS, denoise=denoise, image=picture()))


def test_sdxls_table_in_the_stock_sampler_equals_the_reference(sampling, model, unet):
    sdxl = sampling.set_sampling(model, "sdxl")
    found = run(sdxl, sampling.build_sigmas(sdxl, "euler", 10, 1.0))["samples"] * SCALE
    assert near(found, theirs(unet, "euler", 10, scheduler=SDXL_TABLE))


# ---- parts of a schedule


def step_at(sampling, model, preset, share: float) -> int:
    """The step at which the reference stops: it runs the train steps from that share of all on."""
    from comfyui_kolors.kolors_core.sampling import schedule

    left = len(sampling.train_table(model)) * (1 - share)
    return int((schedule.timesteps(preset, STEPS) >= round(left)).sum())


@pytest.mark.parametrize("preset", SOLVERS)
def test_a_second_model_goes_on_where_the_first_stopped(sampling, model, unet, second, preset):
    """denoising_end and denoising_start; the reference's latents have its own scale in between."""
    sigmas = sampling.build_sigmas(model, preset, STEPS, 1.0)
    high, low = stock("SplitSigmas")(sigmas, step_at(sampling, model, preset, 0.8))
    first = run(model, high, solver=SOLVERS[preset])
    expected = theirs(unet, preset, STEPS, denoising_end=0.8)
    scale = 1.0 if preset == "euler" else (high[-1] ** 2 + 1) ** 0.5
    assert near(first["samples"] * SCALE, expected * scale)
    other, other_model = second
    found = run(other_model, low, first, None, SOLVERS[preset])["samples"] * SCALE
    assert near(found, theirs(other, preset, STEPS, denoise=1.0, image=expected, denoising_start=0.8))
    assert not near(found, theirs(unet, preset, STEPS))


def test_a_share_of_the_steps_splits_where_the_reference_does(sampling, model):
    """Leading spacing: of 25 steps the last 5 are the last fifth of the train steps."""
    sigmas = sampling.build_sigmas(model, "euler", STEPS, 1.0)
    by_step = stock("SplitSigmas")(sigmas, step_at(sampling, model, "euler", 0.8))
    by_share = stock("SplitSigmasDenoise")(sigmas, 0.2)
    assert [part.tolist() for part in by_share] == [part.tolist() for part in by_step]


@pytest.mark.parametrize("scheduler", ["ddim_uniform", "simple"])
def test_two_stock_advanced_samplers_equal_the_reference(model, unet, second, scheduler):
    """Both visit sigmas of train steps, which the reference is given."""
    (sigmas,) = stock("BasicScheduler")(model, scheduler, STEPS, 1.0)
    visited = model.get_model_object("model_sampling").timestep(sigmas[:-1])
    stop = int((visited >= 220).sum())
    ksampler = stock("KSamplerAdvanced")
    options = [STEPS, 5.0, "euler", scheduler, *conditioning()]
    (first,) = ksampler(model, "enable", SEED, *options, empty(), 0, stop, "enable")
    expected = theirs(unet, "euler", STEPS, sigmas=sigmas.tolist(), denoising_end=0.8)
    assert near(first["samples"] * SCALE, expected)
    other, other_model = second
    (found,) = ksampler(other_model, "disable", SEED, *options, first, stop, 10000, "disable")
    rest = theirs(other, "euler", STEPS, sigmas=sigmas.tolist(), denoise=1.0, image=expected, denoising_start=0.8)
    assert near(found["samples"] * SCALE, rest)


# ---- train steps of one's own


@pytest.mark.parametrize("steps", OWN, ids=str)
@pytest.mark.parametrize("preset", ["euler", "dpmpp_2m"])
def test_train_steps_of_ones_own_equal_the_reference(sampling, model, unet, preset, steps):
    sigmas = sampling.build_sigmas(model, preset, 3, 1.0, ", ".join(map(str, steps)))
    found = run(model, sigmas, solver=SOLVERS[preset])["samples"] * SCALE
    assert near(found, theirs(unet, preset, 3, timesteps=steps))


@pytest.mark.parametrize("preset", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("denoise", [0.8, 0.5, 0.3])
def test_denoise_cuts_them_as_the_reference_does(sampling, model, unet, preset, denoise):
    steps = OWN[0]
    sigmas = sampling.build_sigmas(model, preset, 3, denoise, " ".join(map(str, steps)))
    assert len(sigmas) == int(4 * denoise) + 1
    found = run(model, sigmas, {"samples": picture() / SCALE}, solver=SOLVERS[preset])["samples"] * SCALE
    assert near(found, theirs(unet, preset, 3, denoise=denoise, image=picture(), timesteps=steps))


def test_lcms_own_train_steps_are_those_of_its_spacing(sampling, model):
    whole = sampling.build_sigmas(model, "lcm", 4, 1.0)
    assert torch.equal(sampling.build_sigmas(model, "lcm", 9, 1.0, "1099, 835, 549, 285"), whole)
    assert len(sampling.build_sigmas(model, "lcm", 9, 0.2, "1099, 835, 549, 285")) == 0


def test_train_steps_are_counted_in_the_table_of_the_model(sampling, model):
    sdxl = sampling.set_sampling(model, "sdxl")
    assert sampling.build_sigmas(sdxl, "euler", 4, 1.0, "999")[0] == sampling.train_table(sdxl)[-1]
    with pytest.raises(KolorsError, match=r"timesteps is 1000\. Expected .* from at most 999 to at least 0"):
        sampling.build_sigmas(sdxl, "euler", 4, 1.0, "1000")


# ---- sigmas of one's own


OWN_SIGMAS = {
    "normal": lambda model: stock("BasicScheduler")(model, "normal", 10, 1.0),
    "karras": lambda model: stock("BasicScheduler")(model, "karras", 10, 1.0),
    "exponential": lambda model: stock("BasicScheduler")(model, "exponential", 10, 1.0),
    "sgm_uniform": lambda model: stock("BasicScheduler")(model, "sgm_uniform", 10, 1.0),
    "KarrasScheduler": lambda model: stock("KarrasScheduler")(10, 14.6, 0.03, 7.0),
    "AlignYourSteps": lambda model: stock("AlignYourStepsScheduler")("SDXL", 10, 1.0),
    "few": lambda model: (torch.tensor([9.5, 3.0, 0.7, 0.0]),),
    "to the ends": lambda model: (torch.tensor([29.0, 20.0, 0.05, 0.0292, 0.0]),),
}


@pytest.mark.parametrize("name", OWN_SIGMAS)
def test_sigmas_of_ones_own_equal_the_reference(model, unet, name):
    """Whatever the first one is, and between train steps too."""
    (sigmas,) = OWN_SIGMAS[name](model)
    found = run(model, sigmas)["samples"] * SCALE
    assert near(found, theirs(unet, "euler", 10, sigmas=sigmas.tolist()))


def test_a_table_of_train_steps_is_read_backwards(model, sampling):
    """The host's table and the reference's, whose digits differ, give the whole train steps; beyond them the ends."""
    table = model.get_model_object("model_sampling")
    whole = torch.arange(len(table.sigmas)).float()
    assert torch.equal(table.timestep(table.sigmas), whole)
    assert torch.equal(table.timestep(sampling.train_table(model)), whole)
    assert table.timestep(torch.tensor([99.0, 0.001, 0.0])).tolist() == [1099, 0, 0]
    between = table.timestep(table.sigma(torch.tensor([0.5, 700.25, 1098.75])))
    assert torch.allclose(between, torch.tensor([0.5, 700.25, 1098.75]), atol=0.01)


def test_the_solvers_of_karras_presets_are_called_at_whole_train_steps(sampling, model):
    """As in the reference, which rounds there; the next run is as before, also after one that failed."""
    table, steps = model.get_model_object("model_sampling"), []
    hooked = model.clone()

    def fail_at_fifth(apply, args):
        steps.append(float(table.timestep(args["timestep"][0])))
        if len(steps) == 5:
            raise ZeroDivisionError
        return apply(args["input"], args["timestep"], **args["c"])

    hooked.set_model_unet_function_wrapper(fail_at_fifth)
    with pytest.raises(ZeroDivisionError):
        ours(sampling, hooked, "dpmpp_2m_karras", 10)
    assert [step.is_integer() for step in steps] == [True] * 5
    visited = table.timestep(sampling.build_sigmas(model, "dpmpp_2m_karras", 10, 1.0)[:5]).tolist()
    assert not all(step.is_integer() for step in visited)
    assert [round(step) for step in visited] == steps


# ---- which noise is scaled


def test_only_the_first_noise_over_no_image_is_scaled(model):
    """Image by image: of an empty latent, at every sigma; as the host does in all other calls."""
    sampling = model.get_model_object("model_sampling")
    noise, latents = torch.ones(2, 4, 2, 2), torch.zeros(2, 4, 2, 2)
    latents[1, 3, 1, 1] = 2.0
    sigma = torch.tensor(3.0)
    plain, scaled = noise * 3.0 + latents, noise * 10.0**0.5 + latents
    assert torch.allclose(sampling.noise_scaling(sigma, noise, latents, False), torch.stack([scaled[0], plain[1]]))
    assert torch.allclose(sampling.noise_scaling(sigma, noise, latents, True), scaled)
    assert torch.equal(sampling.noise_scaling(sigma, noise, latents), plain)  # a step of a solver, AddNoise
    assert torch.equal(sampling.noise_scaling(sigma.expand(2, 1, 1, 1), noise, latents), plain)  # a mask in a step
    assert torch.equal(sampling.noise_scaling(sigma.expand(2), noise, latents, False), plain)  # training
    assert torch.equal(sampling.noise_scaling(sigma, noise * 0, latents, False), latents)  # without noise


def test_a_picture_beside_an_empty_latent_keeps_its_noise(sampling, model):
    sigmas = sampling.build_sigmas(model, "euler", 4, 1.0)
    both = {"samples": torch.cat([torch.zeros(1, 4, 16, 16), picture() / SCALE])}
    found = run(model, sigmas, both)["samples"]
    noise = torch.randn(2, 4, 16, 16, generator=torch.manual_seed(SEED))
    fed = torch.cat([noise[:1] * (sigmas[0] ** 2 + 1) ** 0.5, noise[1:] * sigmas[0] + picture()])
    expected = run(model, sigmas, {"samples": fed / SCALE}, None)["samples"]
    assert near(found, expected)


def test_a_mask_over_an_empty_latent_is_blended_with_plain_noise(sampling, model):
    """Where the mask keeps the latent, each step sees sigma times the noise over it: here zeros."""
    sigmas = sampling.build_sigmas(model, "euler", 3, 1.0)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1
    seen = []
    hooked = model.clone()

    def look(apply, inputs):
        seen.append((inputs["timestep"][0], inputs["input"][:1]))
        return apply(inputs["input"], inputs["timestep"], **inputs["c"])

    hooked.set_model_unet_function_wrapper(look)
    run(hooked, sigmas, empty() | {"noise_mask": mask})
    noise = torch.randn(1, 4, 16, 16, generator=torch.manual_seed(SEED))
    assert [sigma for sigma, _ in seen] == sigmas[:-1].tolist()
    assert all(near(x[..., :8], noise[..., :8] * sigma) for sigma, x in seen)


def test_below_denoise_1_an_empty_latent_gets_plain_noise(sampling, model, unet):
    """Kolors KSampler's rule, which is that of the image-to-image pipeline with an image of zeros."""
    found = ours(sampling, model, "euler", 10, denoise=0.6)
    assert near(found, theirs(unet, "euler", 10, denoise=0.6, image=torch.zeros(1, 4, 16, 16)))
