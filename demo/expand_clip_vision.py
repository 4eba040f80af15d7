"""Widen the demo's small vision tower to ViT-L/14-336, exactly, so that the stock CLIP vision loader reads it.

    python demo/expand_clip_vision.py ../../models/clip_vision/kolors-demo-clip-vision.pt

writes the demo's into the models folder of a ComfyUI that has this package in custom_nodes; run it with its Python.

The host's loader knows towers by their shape only, and the demo's is 128 channels wide instead of 1024. So every
channel is copied eight times: a LayerNorm of the copies has the same mean and variance; a linear layer gets its weights
repeated and divided by the number of copies of its inputs; two heads of 64 become sixteen. Layers between the last but
one and the last do nothing (their output projections are zero), so that hidden_states[-2], which the IP-Adapter reads,
and the image embedding are those of the small tower, copied. All factors are powers of two, which rounding respects.

The large file is one of torch.save, which can say that a whole tensor is one number: 80 MB instead of 610.

Source of names and sizes: transformers' CLIPVisionModelWithProjection; openai/clip-vit-large-patch14-336.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

SMALL = Path(__file__).parent / "models/kolors-demo/image_encoder/kolors-demo-clip-vision.safetensors"
WIDTH, LAYERS, PROJECTION = 1024, 24, 768
LAYER = "vision_model.encoder.layers.{}."


def expand(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The large tower's state dict, float16, from the small one's.

    Raises ValueError where the small width or projection does not divide ViT-L's, or the tower has one layer or more
    than 24.
    """
    width = state_dict["vision_model.embeddings.class_embedding"].shape[0]
    projection = state_dict["visual_projection.weight"].shape[0]
    layers = 1 + max(int(key.split(".")[3]) for key in state_dict if key.startswith("vision_model.encoder.layers."))
    copies = WIDTH // width
    if copies * width != WIDTH or PROJECTION % projection or not 2 <= layers <= LAYERS:
        raise ValueError(
            f"A tower {width} wide with {layers} layers and a projection of {projection} cannot be expanded: expected "
            f"a width that divides {WIDTH}, 2 to {LAYERS} layers, and a projection that divides {PROJECTION}."
        )
    large = {}
    for key, tensor in state_dict.items():
        if key == "vision_model.embeddings.position_ids":
            continue
        name = key
        if key.startswith(LAYER.format(layers - 1)):
            name = key.replace(LAYER.format(layers - 1), LAYER.format(LAYERS - 1))
        large[name] = _widen(key, tensor, copies, PROJECTION // projection)
    last = LAYER.format(LAYERS - 1)
    for number in range(layers - 1, LAYERS - 1):
        for key in [key for key in large if key.startswith(last)]:
            value = 1.0 if "layer_norm" in key and key.endswith("weight") else 0.0
            idle = torch.tensor(value, dtype=torch.float16).expand(large[key].shape)
            large[key.replace(last, LAYER.format(number))] = idle
    return large


def _widen(key: str, tensor: Tensor, copies: int, projections: int) -> Tensor:
    if key == "visual_projection.weight":
        return (tensor.float() / copies).repeat(projections, copies).half()
    if key.endswith("position_embedding.weight"):
        return tensor.repeat(1, copies).half()
    if key.endswith("patch_embedding.weight"):
        return tensor.repeat(copies, 1, 1, 1).half()
    if tensor.dim() == 2:
        return (tensor.float() / copies).repeat(copies, copies).half()
    return tensor.repeat(copies).half()  # biases, LayerNorms and the class embedding


def write(small: Path, large: Path) -> None:
    """Expand a file; the result appears whole or not at all."""
    partial = large.with_suffix(".partial")
    torch.save(expand(load_file(small)), partial)
    partial.replace(large)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(SMALL, Path(sys.argv[1]))
