"""The vision tower in ViT-L's size sees what the small one sees."""

import json

import pytest
import torch
from comfyui_kolors.demo.expand_clip_vision import LAYERS, PROJECTION, SMALL, WIDTH, expand, write
from reference import relative_error
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

TOLERANCE = 1e-5  # relative L2, float32: sums in another order


def build_tower(config: dict, state_dict: dict) -> CLIPVisionModelWithProjection:
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**config)).eval()
    missing, unexpected = tower.load_state_dict(state_dict, strict=False)
    assert not missing and not unexpected
    return tower


def test_the_large_tower_gives_the_states_of_the_small_one(tmp_path):
    with safe_open(SMALL, "pt") as handle:
        config = json.loads(handle.metadata()["config"])
    large_config = config | {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": WIDTH // 64,
        "num_hidden_layers": LAYERS,
        "projection_dim": PROJECTION,
    }
    write(SMALL, tmp_path / "large.pt")
    assert (tmp_path / "large.pt").stat().st_size < 100e6  # of 606 MB
    assert not (tmp_path / "large.partial").exists()
    large = build_tower(large_config, torch.load(tmp_path / "large.pt", weights_only=True))
    small = build_tower(config, load_file(SMALL))
    pixels = torch.randn(1, 3, 336, 336, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = (tower(pixels, output_hidden_states=True) for tower in (large, small))
    copies = WIDTH // config["hidden_size"]
    states = expected.hidden_states[-2].repeat(1, 1, copies)
    assert relative_error(found.hidden_states[-2], states) <= TOLERANCE
    embeds = expected.image_embeds.repeat(1, PROJECTION // config["projection_dim"])
    assert relative_error(found.image_embeds, embeds) <= TOLERANCE


@pytest.mark.parametrize(("width", "projection", "layers"), [(96, 64, 3), (128, 100, 3), (128, 64, 1), (128, 64, 25)])
def test_a_tower_that_does_not_fit_is_named(width, projection, layers):
    tower = {
        "vision_model.embeddings.class_embedding": torch.zeros(width),
        "visual_projection.weight": torch.zeros(projection, width),
    }
    tower |= {f"vision_model.encoder.layers.{layer}.layer_norm1.bias": torch.zeros(width) for layer in range(layers)}
    with pytest.raises(ValueError, match=f"{width} wide with {layers} layers and a projection of {projection} cannot"):
        expand(tower)
