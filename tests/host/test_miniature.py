"""The trained miniature: its files load in diffusers' and transformers' own classes, which draw the same pictures."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from comfyui_kolors.demo.random_models import Sizes, random_unet
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from comfyui_kolors.kolors_core.networks.vision import to_pil
from diffusers import AutoencoderTiny, KolorsPipeline
from image_prompts import nested, picture
from reference import TOLERANCE, build_chatglm3, build_scheduler, encode, relative_error
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

pytestmark = pytest.mark.host

MODELS = Path(__file__).resolve().parents[2] / "demo" / "models"
SIZES = Sizes(hidden=128, head_dim=32, layers=4, ffn=384, channels=(64, 128, 64), depth=(1, 1), context=128)
SEED, STEPS, GUIDANCE = 3, 25, 4.0
SCALE = 0.13025  # of SDXL latents, between the host's and the model's
COPIES = 8  # the adapter takes the tower's states so many times side by side, as the expanded tower gives them
PROMPTS = ("红苹果，黄色背景", "a penguin on a pink background")
LATENT_TOLERANCE = 1e-3  # relative L2 of final latents and of pictures, float32


def file(part: str) -> str:
    (path,) = MODELS.rglob(f"kolors-demo-{part}.safetensors")
    return str(path)


def read(part: str) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors of a file, those of floats in float32, and its config."""
    with safe_open(file(part), "pt") as handle:
        config = json.loads(handle.metadata().get("config", "{}"))
    tensors = load_file(file(part)).items()
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors}, config


def build_vae() -> AutoencoderTiny:
    """diffusers counts the layers of its decoder without the clamp in front of them."""
    vae, tensors = AutoencoderTiny().eval(), read("vae")[0]
    names = {}
    for key in vae.state_dict():
        part, _, index, rest = key.split(".", 3)
        names[key] = f"taesd_{part}.{int(index) + (part == 'decoder')}.{rest}"
    assert set(tensors) == {*names.values(), "vae_scale", "vae_shift"}
    vae.load_state_dict({key: tensors[name] for key, name in names.items()})
    return vae


@pytest.fixture(scope="module")
def reference() -> SimpleNamespace:
    """diffusers' and transformers' classes with the miniature's weights; every tensor of a file finds its place."""
    unet = random_unet(SIZES)
    unet.load_state_dict(read("unet")[0])
    text, _ = read("chatglm3")
    tokenizer = ChatGLM3Tokenizer(bytes(text.pop("spiece_model").tolist()))
    encoder = build_chatglm3(SIZES, tokenizer.pieces)
    missing, unexpected = encoder.load_state_dict(text, strict=False)
    assert not unexpected and set(missing) <= {"output_layer.weight", "rotary_pos_emb.inv_freq"}  # not Kolors' business
    weights, config = read("clip-vision")
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**config)).eval()
    missing, unexpected = tower.load_state_dict(weights, strict=False)
    assert not missing and not unexpected
    pipe = KolorsPipeline(
        vae=build_vae(), text_encoder=None, tokenizer=None, unet=unet, scheduler=build_scheduler("euler"),
        force_zeros_for_empty_prompt=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return SimpleNamespace(pipe=pipe, tokenizer=tokenizer, encoder=encoder, tower=tower)


def draw(reference, text: str, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Final latents, and the picture (1, height, width, 3) in 0..1."""
    ids = [reference.tokenizer.encode(each).ids for each in (text, "")]
    (context, negative), (pooled, negative_pooled) = (part.split(1) for part in encode(reference.encoder, ids))
    latents = reference.pipe(
        prompt_embeds=context, pooled_prompt_embeds=pooled,
        negative_prompt_embeds=negative, negative_pooled_prompt_embeds=negative_pooled,
        num_inference_steps=STEPS, guidance_scale=GUIDANCE, height=128, width=128, output_type="latent",
        generator=torch.Generator().manual_seed(SEED), **options,
    ).images  # fmt: skip
    with torch.no_grad():
        pixels = reference.pipe.vae.decode(latents).sample / 2 + 0.5
    return latents, pixels.clamp(0, 1).movedim(1, -1)


@pytest.fixture(scope="module")
def host() -> SimpleNamespace:
    """The same files through our loaders and the host's own VAE."""
    import comfy.sd
    import comfy.utils
    import loaders
    from comfyui_kolors.kolors_core.host import sampling, unet
    from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter

    unet.register()
    return SimpleNamespace(
        model=loaders.load_unet(file("unet")),
        clip=loaders.load_text_encoder(file("chatglm3")),
        vae=comfy.sd.VAE(sd=comfy.utils.load_torch_file(file("vae"))),
        adapter=ip_adapter.load_ip_adapter(file("ip-adapter")),
        ip_adapter=ip_adapter,
        sampling=sampling,
    )


def draw_here(host, text: str, model=None) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the nodes' functions."""
    states = [host.clip.encode_from_tokens_scheduled(host.clip.tokenize(each)) for each in (text, "")]
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    result = host.sampling.sample(model or host.model, SEED, STEPS, GUIDANCE, "euler", *states, latent, 1.0)["samples"]
    return result * SCALE, host.vae.decode(result)


@pytest.mark.parametrize("text", PROMPTS)
def test_text_states_equal_diffusers(reference, host, text):
    ((found, extra),) = host.clip.encode_from_tokens_scheduled(host.clip.tokenize(text))
    context, pooled = encode(reference.encoder, [reference.tokenizer.encode(text).ids])
    assert relative_error(found, context) <= TOLERANCE
    assert relative_error(extra["pooled_output"], pooled) <= TOLERANCE


@pytest.mark.parametrize("text", PROMPTS)
def test_pictures_equal_diffusers(reference, host, text):
    for found, expected in zip(draw_here(host, text), draw(reference, text)):
        assert relative_error(found, expected) <= LATENT_TOLERANCE


def test_the_encoded_picture_equals_diffusers(reference, host):
    image = picture(128, 128)
    with torch.no_grad():
        expected = reference.pipe.vae.encode(image.movedim(-1, 1) * 2 - 1).latents
    assert relative_error(host.vae.encode(image) * SCALE, expected) <= TOLERANCE


def test_pictures_with_the_adapter_equal_diffusers(reference, host):
    """diffusers' own loader of the adapter, and transformers' tower for both."""
    weights = nested(read("ip-adapter")[0])
    image = to_pil(picture()[0])
    pixels = CLIPImageProcessorPil(size=336, crop_size=336)(image, return_tensors="pt").pixel_values
    with torch.no_grad():
        hidden = reference.tower(torch.cat([torch.zeros_like(pixels), pixels]), output_hidden_states=True).hidden_states
    states = hidden[-2].repeat(1, 1, COPIES)  # (2, 577, 1024)
    negative, positive = states.split(1)
    tokens = host.ip_adapter.encode_states(host.adapter, [positive, negative])
    applied = host.ip_adapter.apply(host.model, host.adapter, tokens, host.ip_adapter.Influence(1.0, 0.0, 1.0))
    found = draw_here(host, PROMPTS[0], applied)
    reference.pipe.load_ip_adapter([weights], subfolder="", weight_name=[""], image_encoder_folder=None)
    try:
        expected = draw(reference, PROMPTS[0], ip_adapter_image_embeds=[states[:, None]])
    finally:
        reference.pipe.unload_ip_adapter()
    for mine, theirs in zip(found, expected):
        assert relative_error(mine, theirs) <= LATENT_TOLERANCE
    assert relative_error(draw_here(host, PROMPTS[0])[0], expected[0]) > 10 * LATENT_TOLERANCE  # it does something
