"""What a ControlNet file is, and its SD names, on meta tensors."""

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_control_net
from comfyui_kolors.kolors_core.files import control_net_keys as keys


def meta(**shapes):
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def kolors():
    """Kolors' own, with diffusers' names."""
    return random_control_net(TINY).state_dict()


TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
SD = meta(**{"zero_convs.0.0.weight": (8, 8, 1, 1), "input_hint_block.0.weight": (16, 3, 3, 3)})
OTHERS = {
    "nothing": {},
    "VAE": meta(**{"decoder.conv_in.weight": (8, 4, 3, 3)}),
    "UNet": meta(**{"conv_in.weight": (8, 4, 3, 3), f"{TO_K}.weight": (8, 2048)}),
    "another name's end": meta(**{"subzero_convs.0.0.weight": (8, 8, 1, 1)}),
}


# ---- what it is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "controlnet.", "control_model."])
def test_one_of_either_layout_is_found_under_any_prefix(kolors, prefix):
    for weights in (kolors, SD):
        stranger = {"model.diffusion_model.out.2.weight": torch.empty(4, device="meta")} if prefix else {}
        found = keys.extract_control_net(stranger | {prefix + key: tensor for key, tensor in weights.items()})
        assert found.keys() == weights.keys()
        assert all(found[key] is weights[key] for key in weights)


@pytest.mark.parametrize("kind", OTHERS)
def test_another_model_holds_none(kind):
    assert keys.extract_control_net(OTHERS[kind]) is None
    assert not keys.is_control_lora(OTHERS[kind])
    assert not keys.is_t2i_adapter(OTHERS[kind])


def test_a_control_lora_is_known_by_its_mark(kolors):
    assert keys.is_control_lora(SD | meta(lora_controlnet=(0,)))
    assert not keys.is_control_lora(SD)
    assert not keys.is_control_lora(kolors)


@pytest.mark.parametrize(
    "key",
    [
        "adapter.body.0.resnets.0.block1.weight",  # diffusers
        "body.0.block1.weight",  # TencentARC's full one
        "body.0.in_conv.weight",  # and its light one
    ],
)
def test_a_t2i_adapter_is_known_in_each_of_its_layouts(kolors, key):
    assert keys.is_t2i_adapter(meta(**{key: (8, 8, 3, 3)}))
    assert not keys.is_t2i_adapter(meta(**{f"x.{key}": (8, 8, 3, 3)}))
    assert not keys.is_t2i_adapter(kolors)


# ---- the text that it reads -----------------------------------------------------------------------------------------

SD_TO_K = "input_blocks.4.1.transformer_blocks.0.attn2.to_k"


@pytest.mark.parametrize("name", [TO_K, SD_TO_K])
@pytest.mark.parametrize("part", ["weight", "down"])
def test_the_text_width_is_what_the_cross_attention_reads(name, part):
    """`down` is that of a Control-LoRA: (rank, width)."""
    own = meta(**{f"{name.replace('attn2', 'attn1')}.{part}": (8, 8)})
    assert keys.text_width(own | meta(**{f"{name}.{part}": (4, 2048)})) == 2048
    assert keys.text_width(own) is None


def test_the_text_width_of_kolors_is_that_behind_its_projection(kolors):
    assert keys.text_width(kolors) == TINY.context


@pytest.mark.parametrize(
    ("width", "family"),
    [(768, "SD1.5"), (1024, "SD2"), (2048, "SDXL"), (4096, "another model")],
)
def test_the_family_is_named_with_the_width(width, family):
    assert keys.describe_family(meta(**{f"{TO_K}.weight": (64, width)})) == f"{family} (text width {width})"


def test_without_cross_attention_the_family_is_unknown():
    assert keys.describe_family(SD) == "another model (text width None)"


# ---- its names ------------------------------------------------------------------------------------------------------

#: lllyasviel's list of the hint's layers has an activation behind each convolution but the last.
HINT = {"conv_in": 0, **{f"blocks.{i}": 2 * i + 2 for i in range(6)}, "conv_out": 14}


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("name", HINT)
def test_the_convolutions_of_the_hint_stand_at_every_other_place(name, part):
    assert keys.sd_name(f"controlnet_cond_embedding.{name}.{part}") == f"input_hint_block.{HINT[name]}.{part}"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("controlnet_down_blocks.0.weight", "zero_convs.0.0.weight"),
        ("controlnet_down_blocks.11.bias", "zero_convs.11.0.bias"),
        ("controlnet_mid_block.weight", "middle_block_out.0.weight"),
        ("transformer_layes.0.attn.in_proj_weight", "transformer_layes.0.attn.in_proj.weight"),
        ("transformer_layes.0.attn.in_proj_bias", "transformer_layes.0.attn.in_proj.bias"),
    ],
)
def test_the_layers_that_only_control_nets_have_get_their_sd_names(key, name):
    assert keys.sd_name(key) == name


@pytest.mark.parametrize(
    "key",
    [
        "transformer_layes.0.attn.out_proj.weight",
        "task_embedding",
        "control_add_embedding.linear_1.weight",
        "encoder_hid_proj.weight",
        "input_hint_block.0.weight",
        "x.controlnet_cond_embedding.conv_in.weight",
    ],
)
def test_other_names_stay(key):
    assert keys.sd_name(key) == key


def test_every_part_of_a_whole_network_gets_a_name_of_its_own(kolors):
    own = [key for key in kolors if key.startswith("controlnet_")]
    names = [keys.sd_name(key) for key in own]
    assert len(set(names)) == len(own) > 2 * len(HINT)
    assert {name.split(".")[0] for name in names} == {"input_hint_block", "zero_convs", "middle_block_out"}
