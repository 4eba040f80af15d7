"""Which of Kolors' models a file holds, by its header alone."""

from __future__ import annotations

import zipfile

import pytest
import torch
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import TINY
from comfyui_kolors.kolors_core.files import kinds
from comfyui_kolors.kolors_core.files.kinds import find_kinds
from safetensors.torch import save_file


def shapes(**sizes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {key.replace("__", "."): torch.zeros(size) for key, size in sizes.items()}


FOREIGN = {
    "SDXL's UNet": shapes(conv_in__weight=(32, 4, 3, 3), attn2__to_k__weight=(64, 2048)),
    "SD1.5's ControlNet": shapes(
        controlnet_cond_embedding__conv_in__weight=(16, 3, 3, 3), a__attn2__to_k__weight=(9, 768)
    ),
    "SD1.5's IP-Adapter": shapes(image_proj__norm__weight=(4,), ip_adapter__1__to_k_ip__weight=(4, 768)),
    "SDXL's IP-Adapter": shapes(image_proj__proj_in__weight=(4, 1280), ip_adapter__1__to_k_ip__weight=(4, 2048)),
    "a LoRA": shapes(unet__encoder_hid_proj__lora_A__weight=(4, 4)),
    "a LoRA of ChatGLM3": shapes(encoder__layers__0__self_attention__query_key_value__lora_A__weight=(4, 4)),
    "half of an adapter": shapes(ip_adapter__1__to_k_ip__weight=(4, 128)),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_other_models_are_none_of_ours(tmp_path, name, suffix):
    path = tmp_path / f"model{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(FOREIGN[name], path)
    assert find_kinds(path).kinds == frozenset()


def test_control_nets_of_kolors_and_of_sdxl_in_any_layout(tmp_path):
    kolors = random_models.random_control_net(TINY).state_dict()
    sdxl = random_models.random_control_net(TINY, label_width=2816).state_dict()
    old_names = shapes(
        zero_convs__0__0__weight=(4, 4), input_hint_block__0__weight=(4, 3), attn2__to_k__weight=(4, 2048)
    )
    lora = shapes(lora_controlnet=(0,), input_hint_block__0__weight=(4, 3), attn2__to_k__down=(4, 2048))
    for tensors in (kolors, sdxl, {f"control_model.{key}": tensor for key, tensor in old_names.items()}, lora):
        save_file(tensors, tmp_path / "control.safetensors")
        assert find_kinds(tmp_path / "control.safetensors").kinds == {"controlnet"}


def test_what_has_no_mark_is_not_parsed(tmp_path, monkeypatch):
    save_file(FOREIGN["SDXL's UNet"], tmp_path / "other.safetensors")
    save_file(random_models.random_unet(TINY).state_dict(), tmp_path / "kolors.safetensors")
    parsed = []
    parse = kinds.parse_shapes
    monkeypatch.setattr(kinds, "parse_shapes", lambda text: parsed.append(1) or parse(text))
    assert find_kinds(tmp_path / "other.safetensors").kinds == frozenset() and not parsed
    assert find_kinds(tmp_path / "kolors.safetensors").kinds == {"diffusion_models"} and parsed


def test_a_compressed_pickle_is_not_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.bin", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"encoder_hid_proj.weight" * 1_000_000)
    unpacked: list[object] = []
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda file, member: unpacked.append(member))
    assert find_kinds(tmp_path / "bomb.bin").kinds == frozenset() and not unpacked
