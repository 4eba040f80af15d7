"""Adapters by their tensors: sizes, layouts, other families, and the projections against diffusers."""

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, attention_widths, random_face_adapter, random_ip_adapter
from comfyui_kolors.kolors_core.errors import BadFile
from comfyui_kolors.kolors_core.files.ip_adapter_keys import check_family, extract_ip_adapter
from comfyui_kolors.kolors_core.files.weights import read_state_dict
from comfyui_kolors.kolors_core.networks.ip_adapter import IPAdapter, IPAdapterConfig
from diffusers import UNet2DConditionModel
from image_prompts import KWAI_KOLORS, NO_ORIGINAL, nested, original_module
from reference import TOLERANCE, relative_error
from safetensors.torch import save_file

IMAGE_WIDTH = 96
KINDS = {"plus": random_ip_adapter, "face": random_face_adapter}


def meta(**shapes):
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def build(state_dict) -> IPAdapter:
    adapter = extract_ip_adapter(state_dict)
    model = IPAdapter(IPAdapterConfig.from_state_dict(adapter))
    model.load_state_dict(adapter)
    return model.eval()


def reference_projection(state_dict) -> torch.nn.Module:
    """diffusers' module for the tensors under image_proj."""
    convert = UNet2DConditionModel._convert_ip_adapter_image_proj_to_diffusers
    return convert(None, nested(state_dict)["image_proj"], low_cpu_mem_usage=False).eval()


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))


def test_the_released_sizes_are_the_defaults():
    shapes = {
        "image_proj.latents": (1, 16, 2048),
        "image_proj.proj_in.weight": (2048, 1024),
        "image_proj.proj_out.weight": (2048, 2048),
        "ip_adapter.1.to_k_ip.weight": (640, 2048),
        "ip_adapter.1.to_v_ip.weight": (640, 2048),
    }
    for layer in range(4):
        shapes[f"image_proj.layers.{layer}.0.to_q.weight"] = (768, 2048)
        shapes[f"image_proj.layers.{layer}.1.1.weight"] = (8192, 2048)
    assert IPAdapterConfig.from_state_dict(meta(**shapes)) == IPAdapterConfig(projections=(640,))


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 192, "heads": 3, "depth": 2, "tokens": 5},
        {"width": 64, "heads": 1, "depth": 6, "tokens": 32},
    ],
    ids=str,
)
def test_any_sizes_are_read_from_the_tensors(sizes):
    state_dict = random_ip_adapter(TINY, IMAGE_WIDTH, **sizes)
    model = build(state_dict)
    expected = sizes | {"image_width": IMAGE_WIDTH, "projections": tuple(attention_widths(TINY)), "face_width": None}
    assert {name: getattr(model.config, name) for name in expected} == expected
    assert model.encode(random(2, 10, IMAGE_WIDTH)).shape == (2, sizes["tokens"], TINY.context)


@torch.no_grad()
def test_image_tokens_equal_the_reference():
    state_dict = random_ip_adapter(TINY, IMAGE_WIDTH)
    states = random(3, 577, IMAGE_WIDTH)
    assert relative_error(build(state_dict).encode(states), reference_projection(state_dict)(states)) <= TOLERANCE


@torch.no_grad()
def test_face_tokens_equal_the_reference():
    state_dict = random_face_adapter(TINY, IMAGE_WIDTH, tokens=4)  # diffusers reads no other number
    states, faces = random(3, 577, IMAGE_WIDTH), random(3, 512)
    projection = reference_projection(state_dict)
    projection.clip_embeds, projection.shortcut = states[None], True
    assert relative_error(build(state_dict).encode(states, faces), projection(faces)) <= TOLERANCE


@pytest.mark.skipif(KWAI_KOLORS is None, reason=NO_ORIGINAL)
@torch.no_grad()
def test_face_tokens_equal_the_original_code():
    state_dict = random_face_adapter(TINY, IMAGE_WIDTH)
    original = original_module("ipa_faceid_plus").ProjPlusModel(TINY.hidden, 512, IMAGE_WIDTH, 6).eval()
    original.load_state_dict(nested(state_dict)["image_proj"])
    states, faces = random(3, 577, IMAGE_WIDTH), random(3, 512)
    assert relative_error(build(state_dict).encode(states, faces), original(faces, states)) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["flat", "nested", "safetensors"])
@pytest.mark.parametrize("part", ["ip_adapter", "adapter_modules"])
def test_every_layout_gives_the_same_adapter(tmp_path, kind, layout, part):
    original = KINDS[kind](TINY, IMAGE_WIDTH)
    renamed = {
        key.replace("adapter_modules", "ip_adapter").replace("ip_adapter", part): v for key, v in original.items()
    }
    path = tmp_path / ("adapter.safetensors" if layout == "safetensors" else "adapter.bin")
    if layout == "safetensors":
        save_file(renamed, path)
    else:
        torch.save(nested(renamed) if layout == "nested" else renamed, path)
    found = build(read_state_dict(path)[0]).state_dict()
    expected = extract_ip_adapter(original)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def read_config(adapter):
    check_family(adapter)
    return IPAdapterConfig.from_state_dict(adapter)


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        (
            {"image_proj.latents": (1, 16, 768), "ip_adapter.1.to_k_ip.weight": (320, 768)},
            r"is an IP-Adapter for SD1.5 \(text width 768\)",
        ),
        (
            {"image_proj.proj_in.weight": (1280, 1280), "ip_adapter.1.to_k_ip.weight": (640, 2048)},
            r"is an IP-Adapter for SDXL \(its images come from CLIP ViT-H, of width 1280\)",
        ),
        (
            {"image_proj.proj.weight": (8192, 1280), "ip_adapter.1.to_k_ip.weight": (640, 2048)},
            "is an IP-Adapter for SDXL without a resampler, which is not the Plus kind",
        ),
        (
            {
                "image_proj.perceiver_resampler.proj_in.weight": (2048, 1280),
                "ip_adapter.0.to_q_lora.down.weight": (128, 640),
                "ip_adapter.1.to_k_ip.weight": (640, 2048),
            },
            "is a FaceID adapter for SDXL, with a LoRA in it",
        ),
        ({"image_proj.latents": (1, 16, 2048)}, "is not an IP-Adapter: it has no image_proj or no to_k_ip"),
        (
            {"image_proj.proj_in.weight": (2048, 1024), "ip_adapter.1.to_k_ip.weight": (640, 2048)},
            "is an incomplete IP-Adapter: image_proj.latents is missing. Download it again",
        ),
        (
            {"image_proj.latents": (1, 16, 2048), "ip_adapter.1.to_k_ip.weight": (640, 2048)},
            "is an incomplete IP-Adapter: image_proj.proj_in.weight is missing. Download it again",
        ),
    ],
)
def test_other_adapters_are_named(state_dict, message):
    with pytest.raises(BadFile, match=message):
        read_config(meta(**state_dict))


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("image_proj.proj_in.weight", torch.zeros(128)),
        ("image_proj.proj_in.weight", torch.zeros(2, 3, 4, 5)),
        ("ip_adapter.1.to_k_ip.weight", torch.zeros(64)),
        ("image_proj.latents", torch.zeros(16)),
        ("ip_adapter.foo.weight", torch.zeros(2)),
        ("ip_adapter.1.to_v_ip.weight", torch.zeros(64, 128, dtype=torch.int8)),
    ],
)
def test_a_damaged_adapter_is_named(key, tensor):
    state_dict = random_ip_adapter(TINY, IMAGE_WIDTH) | {key: tensor}
    with pytest.raises(BadFile, match=r"^is (a damaged IP-Adapter|an IP-Adapter with 1 tensors that are not floats)"):
        read_config(state_dict)


@pytest.mark.parametrize(
    ("adapter", "key", "tensor"),
    [
        (random_ip_adapter(TINY, 64), "ip_adapter.1.to_k_ip.weight", torch.zeros(())),
        (random_face_adapter(TINY, 64), "image_proj.perceiver_resampler.proj_in.weight", torch.zeros(0, 64)),
    ],
    ids=["no dimension", "width 0"],
)
def test_sizes_that_do_not_add_up_are_named(adapter, key, tensor):
    adapter = extract_ip_adapter(adapter | {key: tensor})
    with pytest.raises(BadFile, match="is a damaged IP-Adapter"):
        read_config(adapter)
