"""What a model file is to Kolors, by the tensors in it."""

from __future__ import annotations

import pytest
import small_models
from comfyui_kolors.kolors_core.models.contents import Contents, look_into
from small_models import put, safetensors

PLUS = {"image_proj.proj_in.weight": [2048, 1024], "ip_adapter.1.to_k_ip.weight": [640, 2048]}
FACE = {
    "image_proj.proj.0.weight": [1024, 512],
    "image_proj.perceiver_resampler.proj_in.weight": [2048, 1024],
    "adapter_modules.1.to_k_ip.weight": [640, 2048],
}
VISION = "vision_model.embeddings.position_embedding.weight"


@pytest.mark.parametrize(
    ("content", "roles", "storage", "text"),
    [
        (small_models.unet(), ("unet",), "fp16", "a Kolors UNet"),
        (small_models.unet(dtype="BF16"), ("unet",), "bf16", "a Kolors UNet"),
        (small_models.unet(dtype="F8_E4M3"), ("unet",), "fp8", "a Kolors UNet"),
        (small_models.unet(prefix="model.diffusion_model."), ("unet",), "fp16", "a Kolors UNet"),
        (small_models.unet(9), ("inpainting",), "fp16", "a Kolors UNet"),
        (small_models.unet(8), (), "fp16", "a Kolors UNet of another kind"),
        (small_models.unet(hidden=512), (), "", "a Kolors UNet of another kind"),
        (small_models.encoder(), ("encoder",), "fp16", "a ChatGLM3 text encoder"),
        (small_models.encoder("int8"), ("encoder",), "int8", "a ChatGLM3 text encoder with integer weights"),
        (small_models.encoder("int4"), ("encoder",), "int4", "a ChatGLM3 text encoder with integer weights"),
        (small_models.encoder(hidden=512), (), "", "a ChatGLM3 text encoder of another kind"),
        (
            small_models.encoder("int8", hidden=512),
            (),
            "",
            "a ChatGLM3 text encoder with integer weights of another kind",
        ),
        (small_models.vae(), ("vae",), "", "a VAE"),
        (small_models.vae(16), (), "", "a VAE of 16 channels"),
        (small_models.control_net(b"1"), ("controlnet",), "", "a Kolors ControlNet"),
        (
            safetensors({"encoder_hid_proj.weight": [64, 512], "controlnet_cond_embedding.conv_in.weight": [16, 3]}),
            (),
            "",
            "a Kolors ControlNet",
        ),
        (safetensors(PLUS), ("ip-adapter-plus",), "", "an IP-Adapter"),
        (safetensors(FACE), ("faceid-plus",), "", "an IP-Adapter"),
        (safetensors(PLUS | {"image_proj.proj_in.weight": [1280, 1280]}), (), "", "an IP-Adapter"),  # SDXL's, of ViT-H
        (safetensors(PLUS | {"ip_adapter.1.to_k_ip.weight": [320, 768]}), (), "", "an IP-Adapter"),  # SD1.5's
        (safetensors({"image_proj.proj.weight": [8, 8]}), (), "", "an IP-Adapter"),
        (safetensors({VISION: [577, 1024]}), ("vision-encoder",), "", "a CLIP vision model"),
        (safetensors({VISION: [257, 1280]}), (), "", "a CLIP vision model"),
        (safetensors({"vision_model.x": [1]}), (), "", "a CLIP vision model"),
        (safetensors({"a.lora_A.weight": [4, 4]}), (), "", "a LoRA"),
    ],
)
def test_roles_are_told_by_tensors(tmp_path, content, roles, storage, text):
    assert look_into(put(tmp_path / "any name", content)) == Contents(roles, storage, False, text)


@pytest.mark.parametrize("content", [b"", b"{", small_models.unet()[:300], safetensors({"a": [1]})[:9] + b"]" * 90])
def test_what_is_damaged_tells_nothing(tmp_path, content):
    assert look_into(put(tmp_path / "a.safetensors", content)) == Contents()


def test_shapes_that_make_no_sense_tell_nothing(tmp_path):
    tensors = {"conv_in.weight": [320], "conv_out.weight": [4], "encoder_hid_proj.weight": [2048, 4096]}
    content = safetensors(tensors | {"add_embedding.linear_1.weight": [1280, 4096 + 1536]})
    assert look_into(put(tmp_path / "a.safetensors", content)) == Contents()


def test_a_tokenizer_inside_is_seen(tmp_path):
    content = small_models.encoder("int4", tokenizer=b"1")
    assert look_into(put(tmp_path / "a.safetensors", content)).tokenizer


def test_an_index_is_judged_by_its_keys(tmp_path):
    assert look_into(put(tmp_path / "a.index.json", small_models.INDEX)).roles == ("encoder",)
    assert look_into(put(tmp_path / "config.json", small_models.INDEX)).roles == ()
    assert look_into(put(tmp_path / "b.index.json", b'{"weight_map": {"x.weight": "a"}}')).roles == ()
