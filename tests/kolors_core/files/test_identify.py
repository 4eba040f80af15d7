"""Telling files apart by keys and shapes, on meta tensors."""

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_unet, random_vae
from comfyui_kolors.kolors_core.files import identify as detect


def meta(**shapes):
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def unet():
    return random_unet(TINY).state_dict()


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "unet."])
def test_a_kolors_unet_is_found_under_any_prefix(unet, prefix):
    assert detect.find_kolors_unet({prefix + key: tensor for key, tensor in unet.items()}) == prefix


def test_what_is_no_kolors_unet(unet):
    without_mark = {key: tensor for key, tensor in unet.items() if "encoder_hid_proj" not in key}
    assert detect.find_kolors_unet(without_mark) is None
    controlnet = {key: tensor for key, tensor in unet.items() if not key.startswith(("conv_out", "up_blocks"))}
    assert detect.find_kolors_unet(controlnet) is None
    other_label = unet | meta(**{"add_embedding.linear_1.weight": (128, 2816)})
    assert detect.find_kolors_unet(other_label) is None


@pytest.mark.parametrize("prefix", ["", "transformer.", "text_encoders.chatglm3.transformer."])
def test_chatglm3_is_found_and_stripped(prefix):
    state_dict = random_chatglm3(TINY, 471)
    prefixed = {prefix + key: tensor for key, tensor in state_dict.items()}
    assert detect.find_chatglm3(prefixed) == prefix
    encoder = detect.extract_chatglm3(prefixed, prefix)
    assert set(state_dict) - set(encoder) == {"output_layer.weight", "encoder.final_layernorm.weight"}


def test_diffusers_layout_of_the_released_topology(unet):
    assert detect.diffusers_unet_layout(unet) == {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 1, 1],
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "transformer_depth_middle": 2,
    }


CROSS = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
SD_CROSS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
DESCRIPTIONS = {
    "a LoRA": meta(**{"unet.down_blocks.0.attn1.to_q.lora_A.weight": (4, 8)}),
    "a UNet of SDXL with diffusers keys (text width 2048": meta(
        **{"conv_in.weight": (320, 4, 3, 3), CROSS: (640, 2048)}
    ),
    "a checkpoint or UNet of SD1.5 with SD keys (text width 768": meta(
        **{"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3), SD_CROSS: (320, 768)}
    ),
    "an IP-Adapter": meta(**{"image_proj.proj_in.weight": (8, 8)}),
    "a ControlNet": meta(**{"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)}),
    "a CLIP vision model": meta(**{"vision_model.embeddings.class_embedding": (8,)}),
    "a CLIP text encoder": meta(**{"text_model.embeddings.token_embedding.weight": (8, 8)}),
    "a T5 text encoder": meta(**{"encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8)}),
    "a VAE": random_vae(),
    "a diffusion transformer": meta(**{"double_blocks.0.img_attn.qkv.weight": (8, 8)}),
    "a TAESD decoder": meta(**{"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}),
    "an unknown model (5 tensors: x0, x1, x2 and 2 more)": meta(**{f"x{i}": (1,) for i in range(5)}),
    "a Kolors UNet": random_unet(TINY).state_dict(),
    "a ChatGLM3 text encoder": random_chatglm3(TINY, 471),
    "a ChatGLM3 text encoder with integer weights": random_chatglm3(TINY, 471)
    | meta(**{"encoder.layers.0.mlp.dense_4h_to_h.weight_scale": (8,)}),
}


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_describe(description):
    assert detect.describe(DESCRIPTIONS[description]).startswith(description)
