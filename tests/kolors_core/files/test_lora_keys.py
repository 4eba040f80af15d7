"""Keys of LoRAs in plain torch: modules, parts, alpha, and files that are not whole."""

import math

import pytest
import torch
from comfyui_kolors.kolors_core.errors import BadFile
from comfyui_kolors.kolors_core.files.lora_keys import (
    diffsynth_blocks,
    part_name,
    plain_name,
    read_metadata,
    rename_lora,
)

MODULES = {"down_blocks_1_attn_to_q": "diffusion_model.q", "down_blocks_1_attn_to_out_0": "diffusion_model.out"}
UP, DOWN = torch.zeros(8, 4), torch.zeros(4, 6)
RELEASED = {
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
}


@pytest.mark.parametrize(
    "module",
    [
        "unet.down_blocks.1.attn.to_q", "lora_unet_down_blocks_1_attn_to_q", "lycoris_down_blocks_1_attn_to_q",
        "base_model.model.down_blocks.1.attn.to_q", "unet.base_model.model.down_blocks.1.attn.to_q",
    ],
)  # fmt: skip
def test_a_module_is_found_under_every_prefix(module):
    assert plain_name(module) == "down_blocks_1_attn_to_q"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("lora_A.weight", "lora_down.weight"), ("lora.up.weight", "lora_up.weight"), ("lora_B", "lora_up.weight"),
        ("lora_A.default.weight", "lora_down.weight"), ("lora_linear_layer.down.weight", "lora_down.weight"),
        ("lora_magnitude_vector.default.weight", "dora_scale"), ("hada_w1_a", "hada_w1_a"), ("alpha", "alpha"),
        ("weight", None), ("bias", None),
    ],
)  # fmt: skip
def test_a_part_has_the_hosts_name(part, expected):
    assert part_name(part) == expected


def test_the_longest_module_wins():
    module = "unet.down_blocks.1.attn.to_out.0"
    lora = {f"{module}.lora_A.weight": DOWN, f"{module}.lora_B.weight": UP}
    assert set(rename_lora(lora, MODULES, {}).tensors) == {
        "diffusion_model.out.lora_down.weight",
        "diffusion_model.out.lora_up.weight",
    }


def test_unknown_modules_are_listed_once():
    lora = {f"lora_te1_text_model_{part}": DOWN for part in ("mlp.lora_down.weight", "mlp.lora_up.weight", "mlp.alpha")}
    converted = rename_lora(lora, MODULES, {})
    assert (converted.modules, converted.unknown) == ([], ["lora_te1_text_model_mlp"])


def alpha_of(config):
    lora = {"unet.down_blocks.1.attn.to_q.lora_A.weight": DOWN, "unet.down_blocks.1.attn.to_q.lora_B.weight": UP}
    return rename_lora(lora, MODULES, config).tensors.get("diffusion_model.q.alpha")


def test_alpha_of_peft():
    assert alpha_of({}) is None
    assert alpha_of({"lora_alpha": "x"}) is None
    assert alpha_of({"lora_alpha": 2}) == 2
    assert alpha_of({"lora_alpha": 2, "use_rslora": True}) == 2 * math.sqrt(4)
    assert alpha_of({"lora_alpha": 2, "alpha_pattern": {"attn.to_q": 3}}) == 3
    assert alpha_of({"lora_alpha": 2, "alpha_pattern": {"to_k": 3}}) == 2


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100_000, '{"a": 1}'])
def test_metadata_of_no_use_is_passed_over(text):
    assert read_metadata({"lora_adapter_metadata": text}) == {}


def test_the_blocks_of_diffsynth():
    """Attentions of the released UNet, as sdxl_unet.py of DiffSynth-Studio lists them."""
    blocks = diffsynth_blocks(RELEASED)
    attentions = [name for name in blocks if "attentions" in name]
    assert [blocks[name] for name in attentions] == [f"blocks.{n}" for n in (7, 10, 15, 18, 21, 25, 28, 31, 35, 38, 41)]
    assert blocks["down_blocks.0.downsamplers.0"] == "blocks.4"
    assert blocks["up_blocks.2.resnets.2"] == "blocks.48"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"lora_up.weight": UP}, "lacks its lora_down.weight"),
        ({"lora_down.weight": DOWN}, "lacks its lora_up.weight"),
        ({"lora_up.weight": UP, "lora_down.weight": torch.zeros(3, 6)}, ".*cannot be multiplied"),
        ({"lora_up.weight": UP, "lora_down.weight": torch.zeros(())}, ".*cannot be multiplied"),
        ({"lora_up.weight": torch.zeros(8, 0), "lora_down.weight": torch.zeros(0, 6)}, ".*cannot be multiplied"),
        ({"lora_up.weight": UP, "lora_down.weight": DOWN, "alpha": torch.zeros(3)}, "has an alpha of 3 numbers"),
    ],
)
def test_half_a_pair_or_a_strange_alpha_is_named(parts, words):
    lora = {f"unet.down_blocks.1.attn.to_q.{part}": value for part, value in parts.items()}
    with pytest.raises(BadFile, match=f"is a damaged LoRA: diffusion_model.q {words}"):
        rename_lora(lora, MODULES, {})
