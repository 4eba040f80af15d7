"""Inpainting: the nine-channel UNet equal to the reference, and the kept area of the four-channel one."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_unet, taesd_names
from comfyui_kolors.kolors_core.networks.vision import to_pil
from diffusers import AutoencoderTiny
from image_prompts import picture
from PIL import Image
from reference import (
    COMMUNITY,
    LATENT_TOLERANCE,
    NO_COMMUNITY,
    build_pipeline,
    build_scheduler,
    community,
    relative_error,
)
from safetensors.torch import save_file
from sampling_runs import SCALE, SEED, conditioning, prompts, run

pytestmark = pytest.mark.host

SIZE, CELL = 128, 8
#: The community's pipeline counts on text of the released width.
SIZES = replace(TINY, hidden=4096)
STATES = [state for pair in zip(*prompts(SIZES.hidden)) for state in pair]


def disc() -> torch.Tensor:
    """A mask (1, height, width), white where it is drawn anew; its edge cuts through latent cells."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return ((y - 50) ** 2 + (x - 71) ** 2 < 37**2).float()[None]


@pytest.fixture(scope="module")
def host():
    """The host side of the pack, by module."""
    import loaders
    from comfyui_kolors.kolors_core.host import sampling, unet

    unet.register()
    return SimpleNamespace(loaders=loaders, sampling=sampling)


@pytest.fixture(scope="module")
def case(request, host, tmp_path_factory):
    """A UNet of the reference and the same as a MODEL."""
    unet = random_unet(SIZES, request.param)
    path = tmp_path_factory.mktemp("models") / "unet.safetensors"
    save_file(unet.state_dict(), path)
    return unet, host.loaders.load_unet(path)


@pytest.fixture(scope="module")
def reference_vae():
    """A random autoencoder of diffusers whose latents depend on the picture as much as a trained one's do."""
    torch.manual_seed(0)
    vae = AutoencoderTiny().eval()
    for layer in vae.encoder.layers:
        if hasattr(layer, "weight"):
            layer.weight.data *= 3
    return vae


@pytest.fixture(scope="module")
def vae(reference_vae):
    """The same as the stock loader's VAE."""
    import comfy.sd

    return comfy.sd.VAE(sd=taesd_names(reference_vae.state_dict()))


def inpaint(host, model, vae, image, mask, denoise=1.0, noise_mask=False, from_noise=True):
    """Final latents with the stock Inpaint Model Conditioning before our sampler."""
    import nodes

    positive, negative, latent = nodes.InpaintModelConditioning().encode(
        *conditioning(SIZES.hidden), image.clone(), vae, mask, noise_mask
    )
    if from_noise:
        latent = latent | {"samples": torch.zeros_like(latent["samples"])}
    return sample(host, model, positive, negative, latent, denoise)


def sample(host, model, positive, negative, latent, denoise):
    return host.sampling.sample(model, SEED, 10, 5.0, "euler", positive, negative, latent, denoise)["samples"] * SCALE


@torch.no_grad()
def theirs(unet, reference_vae, image, mask):
    """The reference from noise alone: latent, mask at nearest pixels, latent of the picture grey under the mask."""
    pixels = image.movedim(-1, 1) * 2 - 1
    masked = reference_vae.encode(pixels * (mask[:, None] < 0.5)).latents * SCALE
    cells = mask[:, None, ::CELL, ::CELL]
    unet = copy.deepcopy(unet)
    forward = unet.forward

    def call(sample, *args, **options):
        extra = torch.cat([cells, masked], dim=1).expand(len(sample), -1, -1, -1)
        return forward(torch.cat([sample, extra], dim=1), *args, **options)

    unet.forward = call
    noise = torch.randn(1, 4, SIZE // CELL, SIZE // CELL, generator=torch.Generator().manual_seed(SEED))
    pipe = build_pipeline(unet, build_scheduler("euler"))
    return run(pipe, STATES, 5.0, latents=noise, height=SIZE, width=SIZE)


@torch.no_grad()
def theirs_by_community_pipeline(unet, reference_vae, image, mask, strength):
    pipe = build_pipeline(unet, build_scheduler("euler"), community("pipeline_kolors_inpainting").KolorsInpaintPipeline)
    pipe._encode_vae_image = lambda image, generator: reference_vae.encode(image).latents * SCALE
    white = Image.fromarray((mask[0] * 255).to(torch.uint8).numpy())
    return run(
        pipe, STATES, 5.0, image=to_pil(image[0]), mask_image=white, strength=strength, height=SIZE, width=SIZE
    )  # fmt: skip


NINE = pytest.mark.parametrize("case", [9], indirect=True)
FOUR = pytest.mark.parametrize("case", [4], indirect=True)


@NINE
def test_nine_channels_equal_the_reference(host, case, vae, reference_vae):
    unet, model = case
    found = inpaint(host, model, vae, picture(SIZE, SIZE), disc())
    assert relative_error(found, theirs(unet, reference_vae, picture(SIZE, SIZE), disc())) <= LATENT_TOLERANCE
    for other in (
        inpaint(host, model, vae, picture(SIZE, SIZE, 2), disc()),
        inpaint(host, model, vae, picture(SIZE, SIZE), 1 - disc()),
    ):
        assert relative_error(other, found) > 10 * LATENT_TOLERANCE


@pytest.mark.skipif(not COMMUNITY, reason=NO_COMMUNITY)
@NINE
@pytest.mark.parametrize("strength", [1.0, 0.9999])
def test_nine_channels_equal_the_community_pipeline(host, case, vae, reference_vae, strength):
    """Its default strength of 0.9999 begins over the picture, and drops the first step."""
    unet, model = case
    image = picture(SIZE, SIZE)
    found = inpaint(host, model, vae, image, disc(), strength, from_noise=strength == 1.0)
    expected = theirs_by_community_pipeline(unet, reference_vae, image, disc(), strength)
    assert relative_error(found, expected) <= LATENT_TOLERANCE


@pytest.mark.skipif(not COMMUNITY, reason=NO_COMMUNITY)
@FOUR
@pytest.mark.parametrize("strength", [0.9999, 0.6])
def test_four_channels_equal_the_community_pipeline(host, case, vae, reference_vae, strength):
    """A latent noise mask, whose edges are here where the reference has them, at the nearest pixels."""
    unet, model = case
    image = picture(SIZE, SIZE)
    cells = disc()[:, ::CELL, ::CELL].repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    latent = {"samples": vae.encode(image), "noise_mask": cells[:, None]}
    found = sample(host, model, *conditioning(SIZES.hidden), latent, strength)
    expected = theirs_by_community_pipeline(unet, reference_vae, image, disc(), strength)
    assert relative_error(found, expected) <= LATENT_TOLERANCE


@FOUR
@pytest.mark.parametrize("differential", [False, True])
def test_four_channels_keep_what_is_not_masked(host, case, vae, differential):
    from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

    _, model = case
    if differential:  # a V3 node in newer hosts, whose method is named otherwise
        method = getattr(DifferentialDiffusion, "execute", None) or DifferentialDiffusion().apply
        result = method(model)
        (model,) = getattr(result, "result", result)
    image = picture(SIZE, SIZE)
    before = vae.encode(image) * SCALE
    latent = {"samples": before / SCALE, "noise_mask": disc()[:, None]}
    found = sample(host, model, *conditioning(SIZES.hidden), latent, 1.0)
    cells = torch.nn.functional.interpolate(disc()[:, None], size=found.shape[-2:], mode="bilinear")
    kept, drawn = (cells == 0).expand_as(found), (cells == 1).expand_as(found)
    assert torch.allclose(found[kept], before[kept], atol=1e-5)
    assert relative_error(found[drawn], before[drawn]) > 0.1
