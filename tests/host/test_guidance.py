"""UNets that were distilled with guidance, against diffusers: in every layout, by our sampler and by the host's own."""

import logging

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_unet
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.files.identify import GUIDANCE_KEY
from comfyui_kolors.kolors_core.host import messages
from comfyui_kolors.kolors_core.networks.guidance import guidance_embedding
from reference import TOLERANCE, relative_error
from safetensors.torch import save_file
from sampling_runs import SCALE, SEED, conditioning, ours, theirs

pytestmark = pytest.mark.host

WIDTHS = (256, 77)  # the usual one, and an odd one
SHAPE = (2, 4, 16, 16)


@pytest.fixture(scope="module", params=WIDTHS)
def guided_unet(request):
    return random_unet(TINY, guidance_width=request.param)


@pytest.fixture(scope="module")
def guided(sampling, guided_unet, tmp_path_factory):
    return load(guided_unet.state_dict(), tmp_path_factory.mktemp("guided") / "unet.safetensors")


@pytest.fixture
def warnings(caplog):
    """What is said from here on; what was said once before is said again."""
    messages.warn_once.cache_clear()
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if "guidance" in record.getMessage()]


@pytest.fixture
def calls(guided, monkeypatch):
    """The batch of each call of the UNet."""
    network, seen = type(guided.model.diffusion_model), []
    forward = network.forward
    monkeypatch.setattr(
        network, "forward", lambda self, x, *args, **options: seen.append(len(x)) or forward(self, x, *args, **options)
    )
    return seen


def generators(sampling, preset):
    """One for the batch, or for each image where a preset adds noise in its steps."""
    seeds = [sampling.image_seed(SEED, index) for index in range(SHAPE[0])]
    made = [torch.Generator().manual_seed(seed) for seed in seeds]
    return made if preset in sampling.STOCHASTIC else made[0]


def load(state_dict, path):
    import loaders

    save_file(state_dict, path)
    return loaders.load_unet(path)


def stock(model, cfg=1.0, positive=None, negative=None, steps=4):
    """Final latents of the host's own sampling; `positive` and `negative` are added to the prompts."""
    import comfy.sample

    samples = torch.zeros(1, 4, 16, 16)
    noise = comfy.sample.prepare_noise(samples, SEED)
    chosen = [{}, {}] if positive is None else [positive, negative or {}]
    prompts = [[[context, extra | added]] for ((context, extra),), added in zip(conditioning(), chosen)]
    return comfy.sample.sample(model, noise, steps, cfg, "euler", "normal", *prompts, samples, seed=SEED) * SCALE


# ---- against the reference ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 4.0, 7.3, 8.5])
@pytest.mark.parametrize("width", [*WIDTHS, 4, 512])
def test_the_embedding_is_the_references(guidance, width):
    from diffusers import KolorsPipeline

    weights = torch.tensor(guidance - 1).repeat(1)  # as its pipeline calls it
    expected = KolorsPipeline.get_guidance_scale_embedding(None, weights, embedding_dim=width)
    found = guidance_embedding(guidance, width)
    assert found.shape == expected.shape
    assert relative_error(found, expected) <= 1e-6


@pytest.mark.beyond_loading
@pytest.mark.parametrize("guidance", [1.0, 4.0, 8.5])
@pytest.mark.parametrize(("preset", "steps"), [("lcm", 4), ("lcm", 8), ("euler", 4), ("dpmpp_2m", 4)])
def test_cfg_is_the_guidance_in_one_call_a_step(sampling, guided, guided_unet, calls, guidance, preset, steps):
    found = ours(sampling, guided, preset, steps, guidance, SHAPE)
    assert calls == [2] * steps
    expected = theirs(guided_unet, preset, steps, guidance, SHAPE, generator=generators(sampling, preset))
    assert relative_error(found, expected) <= TOLERANCE


@pytest.mark.beyond_loading
@pytest.mark.parametrize("guidance", [1.0, 4.0, 8.5])
@pytest.mark.parametrize("preset", ["lcm", "euler"])
def test_image_to_image(sampling, guided, guided_unet, guidance, preset):
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    found = ours(sampling, guided, preset, 8, guidance, SHAPE, denoise=0.6, image=image)
    options = {"denoise": 0.6, "image": image, "generator": generators(sampling, preset)}
    assert relative_error(found, theirs(guided_unet, preset, 8, guidance, SHAPE, **options)) <= TOLERANCE


# ---- the host's own samplers ----------------------------------------------------------------------------------------


def test_guidance_in_the_conditioning_is_taken(guided, calls):
    default = stock(guided)
    assert calls == [1] * 4
    assert torch.equal(stock(guided, positive={"guidance": 5.0}), default)
    assert relative_error(stock(guided, positive={"guidance": 8.5}), default) > 1e-3


def test_guidance_of_none_adds_nothing(guided, guided_unet, tmp_path):
    """As the stock FluxDisableGuidance asks: the UNet is then the one without the projection."""
    rest = {key: tensor for key, tensor in guided_unet.state_dict().items() if key != GUIDANCE_KEY}
    found = stock(guided, positive={"guidance": None})
    assert torch.equal(found, stock(load(rest, tmp_path / "unet.safetensors")))
    assert relative_error(found, stock(guided)) > 1e-3


def test_a_cfg_above_one_still_counts_the_negative(guided, calls):
    assert relative_error(stock(guided, 3.0), stock(guided)) > 1e-3
    assert sum(calls) == 2 * 4 + 4


def test_each_prompt_has_its_own_guidance(guided):
    """The guidance of the negative is its own: with the positive's it gives another image."""
    one = stock(guided, 3.0, {"guidance": 8.5}, {"guidance": 1.0})
    assert relative_error(stock(guided, 3.0, {"guidance": 8.5}, {"guidance": 8.5}), one) > 1e-3


# ---- what is said ---------------------------------------------------------------------------------------------------


def test_a_negative_prompt_that_cannot_count_is_said_once(sampling, guided, warnings):
    for _ in range(2):
        ours(sampling, guided, "euler", 2)
    assert len(warnings()) == 1
    assert "negative prompt has no effect" in warnings()[0]


def test_an_empty_negative_prompt_is_not_worth_a_word(sampling, guided, warnings):
    (positive, ((context, extra),)) = conditioning()
    padded = torch.cat((context[:, :1].expand(-1, 254, -1), context[:, -2:]), dim=1)  # padding, [gMASK] and sop
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    for states in (padded, torch.zeros_like(context)):
        sampling.sample(guided, SEED, 2, 5.0, "euler", positive, [[states, extra]], latent, 1.0)
    assert warnings() == []


def test_guidance_for_a_unet_without_is_said_once(model, warnings):
    expected = stock(model)
    assert warnings() == []
    for _ in range(2):
        assert torch.equal(stock(model, positive={"guidance": 8.5}), expected)
    assert len(warnings()) == 1
    assert "a guidance of 8.5, which has no effect" in warnings()[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "strong", [3.5]])
def test_a_guidance_that_is_no_number_is_refused(guided, value):
    with pytest.raises(KolorsError, match=r"guidance of .*Expected a number"):
        stock(guided, positive={"guidance": value})


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [GUIDANCE_KEY, "time_embed.cond_proj.weight"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("loader", ["ours", "stock"])
def test_sd_names_load(guided, tmp_path, key, prefix, loader):
    import comfy.sd

    names = {GUIDANCE_KEY: key}
    unet = guided.model.diffusion_model.state_dict()
    saved = {prefix + names.get(name, name): tensor for name, tensor in unet.items()}
    found = load(saved, tmp_path / "unet.safetensors")
    if loader == "stock":
        found = comfy.sd.load_diffusion_model(str(tmp_path / "unet.safetensors"))
    assert torch.equal(stock(found), stock(guided))
    assert found.model.diffusion_model.state_dict().keys() == unet.keys()


def test_a_saved_checkpoint_keeps_it(guided, tmp_path):
    import comfy.sd

    comfy.sd.save_checkpoint(str(tmp_path / "saved.safetensors"), guided)
    loaded, *_ = comfy.sd.load_checkpoint_guess_config(str(tmp_path / "saved.safetensors"), False, False)
    assert torch.equal(stock(loaded), stock(guided))


def test_merging_reaches_it(guided, tmp_path):
    other = guided.model.diffusion_model.state_dict()
    other = {key: tensor.clone() for key, tensor in other.items()}
    other[GUIDANCE_KEY] *= 2
    second = load(other, tmp_path / "unet.safetensors")
    merged = guided.clone()
    merged.add_patches(second.get_key_patches("diffusion_model."), 1.0, 0.0)
    assert relative_error(stock(merged), stock(second)) <= 1e-5
    assert relative_error(stock(merged), stock(guided)) > 1e-4


@pytest.mark.parametrize("shape", [(64,), (16, 256), (32, 2)])
def test_a_damaged_embedding_is_named(guided, tmp_path, shape):
    unet = guided.model.diffusion_model.state_dict() | {GUIDANCE_KEY: torch.zeros(shape)}
    with pytest.raises(KolorsError, match=r"unet\.safetensors in .*Download it again"):
        load(unet, tmp_path / "unet.safetensors")


@pytest.mark.parametrize("name", ["fp16", "fp8_e4m3fn", "fp8_e4m3fn_fast"])
def test_stored_in_fewer_bits_it_is_near(guided_unet, guided, tmp_path, name):
    import loaders

    save_file(guided_unet.state_dict(), tmp_path / "unet.safetensors")
    found = stock(loaders.load_unet(tmp_path / "unet.safetensors", name), steps=1)
    assert relative_error(found, stock(guided, steps=1)) <= (0.02 if name == "fp16" else 0.3)


@pytest.mark.parametrize("name", ["lora_unet_time_embedding_cond_proj", "unet.time_embedding.cond_proj"])
def test_a_lora_reaches_it(guided, tmp_path, name):
    from comfyui_kolors.kolors_core.host.lora import apply_lora

    weight = guided.model.diffusion_model.state_dict()[GUIDANCE_KEY]
    up, down = ("lora_up", "lora_down") if name.startswith("lora") else ("lora_B", "lora_A")
    generator = torch.Generator().manual_seed(4)
    pair = {
        f"{name}.{up}.weight": torch.randn(weight.shape[0], 4, generator=generator),
        f"{name}.{down}.weight": torch.randn(4, weight.shape[1], generator=generator),
    }
    save_file(pair, tmp_path / "lora.safetensors")
    patched = apply_lora(guided, None, str(tmp_path / "lora.safetensors"), 1.0, 1.0).model
    assert relative_error(stock(patched), stock(guided)) > 1e-3
