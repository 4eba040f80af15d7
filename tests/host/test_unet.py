"""The Kolors UNet inside the host: against diffusers, in every layout, beside every other model."""

import logging

import pytest
import torch
from comfyui_kolors.demo.random_models import MID, TINY, random_unet
from reference import SIZES, TOLERANCE, relative_error
from safetensors.torch import save_file

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 512, 768  # pixels named in the size conditioning


@pytest.fixture(scope="module")
def loaders():
    import loaders
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    return loaders


def conditioning(sizes, batch, tokens=256):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, tokens, sizes.hidden, generator=generator),
        torch.randn(batch, sizes.hidden, generator=generator),
    )


@torch.no_grad()
def ours(model, latent, timestep, context, pooled, concat=None):
    """One noise prediction through the host's own model call."""
    model = model.model
    sigma = model.model_sampling.sigma(torch.tensor([timestep])).expand(len(latent))
    kwargs = {"noise": latent, "device": latent.device, "cross_attn": context, "pooled_output": pooled}
    adm = model.encode_adm(**kwargs, width=WIDTH, height=HEIGHT, crop_w=8, crop_h=16)
    scaled = latent * (sigma.view(-1, 1, 1, 1) ** 2 + 1) ** 0.5  # the host divides by this
    denoised = model.apply_model(scaled, sigma, c_concat=concat, c_crossattn=context, y=adm)
    return (scaled - denoised) / sigma.view(-1, 1, 1, 1)


@torch.no_grad()
def theirs(unet, latent, timestep, context, pooled, concat=None):
    size_ids = [HEIGHT, WIDTH, 16, 8, latent.shape[2] * 8, latent.shape[3] * 8]
    added = {"text_embeds": pooled, "time_ids": torch.tensor([size_ids] * len(latent), dtype=torch.float32)}
    sample = latent if concat is None else torch.cat([latent, concat], dim=1)
    return unet(sample, timestep, encoder_hidden_states=context, added_cond_kwargs=added).sample


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 16, 16), (3, 16, 24)])
def test_one_call_equals_the_reference(loaders, tmp_path, size, channels, batch, height, width):
    unet = random_unet(SIZES[size], channels)
    save_file(unet.state_dict(), tmp_path / "unet.safetensors")
    model = loaders.load_unet(tmp_path / "unet.safetensors")
    latent = torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(2))
    concat = latent.flip(0).repeat(1, 2, 1, 1)[:, :5] if channels == 9 else None
    for timestep in (1, 500, 1099):
        arguments = (latent, timestep, *conditioning(SIZES[size], batch), concat)
        assert relative_error(ours(model, *arguments), theirs(unet, *arguments)) <= TOLERANCE


@pytest.mark.parametrize("tokens", [1, 77, 512])
def test_any_number_of_tokens(loaders, tmp_path, tokens):
    unet = random_unet(TINY)
    save_file(unet.state_dict(), tmp_path / "unet.safetensors")
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    arguments = (latent, 500, *conditioning(TINY, 1, tokens))
    assert (
        relative_error(ours(loaders.load_unet(tmp_path / "unet.safetensors"), *arguments), theirs(unet, *arguments))
        <= TOLERANCE
    )


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2", "fp32"])
def test_stored_in_fewer_bits_it_is_finite_and_near(loaders, tmp_path, name):
    save_file(random_unet(MID).state_dict(), tmp_path / "unet.safetensors")
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    arguments = (latent, 500, *conditioning(MID, 1))
    full = ours(loaders.load_unet(tmp_path / "unet.safetensors"), *arguments)
    model = loaders.load_unet(tmp_path / "unet.safetensors", name)
    assert model.model.get_dtype() == loaders.WEIGHT_DTYPES[name]
    found = ours(model, *arguments)
    assert found.isfinite().all()
    assert relative_error(found, full) < (0.3 if name.startswith("fp8") else 0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_files_of_every_precision_load(loaders, tmp_path, dtype):
    unet = random_unet(TINY)
    save_file({key: tensor.to(dtype) for key, tensor in unet.state_dict().items()}, tmp_path / "unet.safetensors")
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    found = ours(loaders.load_unet(tmp_path / "unet.safetensors"), latent, 500, *conditioning(TINY, 1))
    assert found.isfinite().all()


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("stock", [True, False])
def test_sd_layout_loads_here_and_in_the_stock_loader(loaders, tmp_path, prefix, stock):
    import comfy.sd

    save_file(random_unet(TINY).state_dict(), tmp_path / "diffusers.safetensors")
    first = loaders.load_unet(tmp_path / "diffusers.safetensors")
    sd_layout = {prefix + key: tensor for key, tensor in first.model.diffusion_model.state_dict().items()}
    save_file(sd_layout, tmp_path / "sd.safetensors")
    path = str(tmp_path / "sd.safetensors")
    second = comfy.sd.load_diffusion_model(path) if stock else loaders.load_unet(path)
    assert type(second.model) is type(first.model)
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    arguments = (latent, 500, *conditioning(TINY, 1))
    assert torch.equal(ours(first, *arguments), ours(second, *arguments))


def test_the_other_packs_find_what_they_read(loaders, tmp_path):
    """encoder_hid_proj stays a Linear on the diffusion model, and the blocks keep SDXL's numbers."""
    import comfy.model_base

    unet = random_unet(TINY)
    save_file(unet.state_dict(), tmp_path / "unet.safetensors")
    model = loaders.load_unet(tmp_path / "unet.safetensors").model
    assert isinstance(model, comfy.model_base.SDXL)
    assert type(model.diffusion_model).__name__ == "UNetModel"  # what Comfy-WaveSpeed asks
    assert isinstance(model.diffusion_model.encoder_hid_proj, torch.nn.Linear)
    assert torch.equal(model.diffusion_model.encoder_hid_proj.state_dict()["weight"], unet.encoder_hid_proj.weight)
    attention = [name for name, module in model.diffusion_model.named_modules() if name.endswith(".attn2")]
    blocks = sorted({".".join(name.split(".")[:2]) for name in attention})
    assert blocks == sorted(
        [f"input_blocks.{i}" for i in (4, 5, 7, 8)] + ["middle_block.1"] + [f"output_blocks.{i}" for i in range(6)]
    )


#: By these a file of the released size is recognised in ComfyUI-Kolors-MZ, as SDXL is in the host.
RELEASED = {
    "model_channels": 320,
    "use_linear_in_transformer": True,
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "context_dim": 2048,
    "adm_in_channels": 5632,
    "use_temporal_attention": False,
}


def test_a_saved_unet_of_the_released_size_is_what_other_packs_read(loaders):
    """Names and shapes alone: the file of the stock Save nodes, with SD names and the text projection beside them."""
    import comfy.model_detection
    from comfyui_kolors.kolors_core.host.expected import expected_tensors
    from comfyui_kolors.kolors_core.host.unet import KolorsConfig, KolorsUNet

    layout = RELEASED | KolorsConfig.unet_extra_config | {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10, "legacy": False,
        "use_spatial_transformer": True, "num_classes": "sequential", "encoder_hid_dim": 4096,
    }  # fmt: skip
    unet = expected_tensors(KolorsUNet, **layout)
    saved = KolorsConfig(dict(layout)).process_unet_state_dict_for_saving(unet)
    prefix = "model.diffusion_model."
    found = comfy.model_detection.detect_unet_config(saved, prefix)
    assert {key: found[key] for key in RELEASED} == RELEASED
    assert saved[prefix + "encoder_hid_proj.weight"].shape == (2048, 4096)
    assert saved[prefix + "encoder_hid_proj.bias"].shape == (2048,)
    assert type(comfy.model_detection.model_config_from_unet(saved, prefix)) is KolorsConfig


def test_every_other_model_is_detected_as_before(loaders):
    import comfy.supported_models
    from comfyui_kolors.kolors_core.host.unet import KolorsConfig

    models = comfy.supported_models.models
    assert models[-1] is KolorsConfig
    assert models.count(KolorsConfig) == 1
    assert not any(KolorsConfig.matches(config.unet_config, {}) for config in models)


def test_a_stock_sdxl_is_still_sdxl(loaders):
    import comfy.model_detection
    import comfy.supported_models
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfyui_kolors.kolors_core.host.expected import expected_tensors

    config = comfy.supported_models.SDXL.unet_config | {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10, "legacy": False,
        "use_spatial_transformer": True, "num_classes": "sequential", "num_head_channels": 64,
    }  # fmt: skip
    sdxl = expected_tensors(UNetModel, **config)
    detected = comfy.model_detection.model_config_from_unet(sdxl, "")
    assert type(detected) is comfy.supported_models.SDXL


@pytest.fixture
def kolors_model(loaders, tmp_path):
    save_file(random_unet(TINY).state_dict(), tmp_path / "unet.safetensors")
    return loaders.load_unet(tmp_path / "unet.safetensors").model


def test_the_schedule_is_the_references(kolors_model):
    from diffusers import EulerDiscreteScheduler

    reference = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.014, beta_schedule="scaled_linear", num_train_timesteps=1100
    )
    sampling = kolors_model.model_sampling
    expected = ((1 - reference.alphas_cumprod) / reference.alphas_cumprod) ** 0.5
    assert sampling.sigmas.shape == (1100,)
    assert torch.allclose(sampling.sigmas, expected, rtol=2e-5)
    assert sampling.timestep(sampling.sigmas).tolist() == list(range(1100))


def test_percent_ranges_span_all_1100_steps(kolors_model):
    """The host counts on 1000 steps: 0.5% would start at step 994 of 1100."""
    sampling = kolors_model.model_sampling
    assert sampling.percent_to_sigma(0.0) > sampling.sigma_max
    assert sampling.percent_to_sigma(1.0) == 0.0
    assert sampling.percent_to_sigma(1e-9) == pytest.approx(sampling.sigma_max.item(), rel=1e-5)
    assert sampling.percent_to_sigma(0.5) == pytest.approx(sampling.sigma(torch.tensor(549.5)).item())


def test_conditioning_of_another_width_is_named(kolors_model):
    from comfyui_kolors.kolors_core.errors import KolorsError

    noise = torch.zeros(1, 4, 8, 8)
    good = {"cross_attn": torch.zeros(1, 256, TINY.hidden), "pooled_output": torch.zeros(1, TINY.hidden)}
    size = {"noise": noise, "device": noise.device, "width": 64, "height": 64}
    assert kolors_model.extra_conds(**good, **size)["y"].cond.shape == (1, TINY.hidden + 1536)
    for bad, message in (
        (
            {"cross_attn": torch.zeros(1, 77, 2048)},
            r"text embeddings of width 64; the conditioning has width 2048 \(SDXL\)",
        ),
        ({"pooled_output": torch.zeros(1, 1280)}, "pooled embedding of width 64; the conditioning has width 1280"),
        ({"pooled_output": None}, "pooled embedding of width 64; the conditioning has none"),
    ):
        with pytest.raises(KolorsError, match=message):
            kolors_model.extra_conds(**(good | bad), **size)


def test_a_load_is_logged_once(loaders, tmp_path, caplog):
    save_file(random_unet(TINY).state_dict(), tmp_path / "unet.safetensors")
    with caplog.at_level(logging.INFO, logger="ComfyUI-Kolors"):
        loaders.load_unet(tmp_path / "unet.safetensors", "fp16")
    (record,) = [record for record in caplog.records if record.name == "ComfyUI-Kolors"]
    assert record.getMessage().startswith("[Kolors] UNet unet.safetensors: float16, ")
