"""What users load in the place of a Kolors IP-Adapter: each is named in words, and the server goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapters import FACE, Tensors, plus
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import TINY, random_ip_adapter
from image_prompts import nested
from other_models import SOURCES, CreateFile, kl_vae, lora
from safetensors.torch import save

pytestmark = pytest.mark.host


def without_resampler() -> Tensors:
    """SDXL's first IP-Adapter: one projection of the pooled image embedding."""
    adapter = {key: tensor for key, tensor in of_sdxl().items() if key.startswith("ip_adapter.")}
    return adapter | {
        "image_proj.proj.weight": torch.zeros(4 * 2048, 1280),
        "image_proj.proj.bias": torch.zeros(4 * 2048),
        "image_proj.norm.weight": torch.ones(2048),
        "image_proj.norm.bias": torch.zeros(2048),
    }


def of_sdxl() -> Tensors:
    """The Plus adapter of SDXL in its true widths where they tell it from Kolors'."""
    sizes = replace(TINY, context=2048)
    return random_ip_adapter(sizes, image_width=1280, width=1280, depth=1, heads=20)


def faceid_of_sdxl() -> Tensors:
    adapter = {key: tensor for key, tensor in of_sdxl().items() if key.startswith("ip_adapter.")}
    return adapter | {
        "image_proj.proj.0.weight": torch.zeros(1024, 512),
        "image_proj.proj.2.weight": torch.zeros(4 * 2048, 1024),
        "image_proj.perceiver_resampler.proj_in.weight": torch.zeros(2048, 1280),
        "ip_adapter.0.to_q_lora.down.weight": torch.zeros(128, 64),
    }


OTHER_MODELS = {
    "ip-adapter-plus_sd15.safetensors": (
        lambda: plus(replace(TINY, context=768), depth=1),
        ["an IP-Adapter for SD1.5", "768"],
    ),
    "ip-adapter-plus_sdxl_vit-h.safetensors": (of_sdxl, ["an IP-Adapter for SDXL", "1280"]),
    "ip-adapter_sdxl.bin": (without_resampler, ["an IP-Adapter for SDXL", "not the Plus kind"]),
    "ip-adapter-faceid-plusv2_sdxl.bin": (faceid_of_sdxl, ["a FaceID adapter for SDXL"]),
    "unet.safetensors": (lambda: random_models.random_unet(TINY).state_dict(), ["a Kolors UNet"]),
    "lora.safetensors": (lambda: lora("kohya"), ["a LoRA"]),
    "vae.safetensors": (kl_vae, ["a VAE"]),
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_another_model_is_named(server, put, refuse, name):
    make, words = OTHER_MODELS[name]
    put("ipadapter", name, nested(make()) if name.endswith(".bin") else make())
    message = refuse(lambda graph: graph.apply(name), "KolorsIPAdapterLoader")
    words = [*words, name, str(server.base / "models/ipadapter"), "Expected an IP-Adapter", "of Kolors", SOURCES]
    assert [word for word in words if word not in message] == [], message


def test_a_bin_with_code_is_named_and_not_executed(put, refuse, tmp_path):
    canary = tmp_path / "canary"
    path = put("ipadapter", "code.bin", nested(plus()) | {"code": CreateFile(canary)})
    message = refuse(lambda graph: graph.apply(path.name), "KolorsIPAdapterLoader")
    for word in (path.name, "a pickle that wants to run code", "was not executed", "Use the .safetensors file"):
        assert word in message, message
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the code would have done nothing anywhere"


def test_a_truncated_adapter_is_named_with_both_sizes(put, refuse):
    whole = save(plus())
    name = put("ipadapter", "truncated.safetensors", whole[: len(whole) // 2]).name
    message = refuse(lambda graph: graph.apply(name), "KolorsIPAdapterLoader")
    for word in (name, "damaged safetensors", f"{len(whole) // 2:,}", f"{len(whole):,}", "Download it again"):
        assert word in message, message


def test_an_adapter_without_one_tensor_is_named_incomplete(put, refuse):
    key = "ip_adapter.7.to_v_ip.weight"
    name = put("ipadapter", "incomplete.safetensors", {k: v for k, v in plus().items() if k != key}).name
    message = refuse(lambda graph: graph.apply(name), "KolorsIPAdapterLoader")
    for word in (name, "an incomplete IP-Adapter", key, "missing", "Download it again"):
        assert word in message, message


def test_a_face_adapter_is_named_by_the_node_for_pictures(refuse):
    message = refuse(lambda graph: graph.apply(FACE), "KolorsIPAdapterApply")
    for word in (FACE, "is a FaceID adapter", "Use 'Apply Kolors FaceID'"):
        assert word in message, message
