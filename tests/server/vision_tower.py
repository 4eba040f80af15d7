"""Vision towers, one of them of the one shape that the stock loader knows, and nodes that only tests need.

The servers of the tests load this very file as a pack: servers.py copies it into custom_nodes. So it imports nothing
of the pack and nothing of the tests, and of the host only where a node runs.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTH, LAYERS, PATCH, SIZE = 1024, 24, 14, 336  # ViT-L/14; the stock loader knows no smaller one
SMALL_WIDTH = 64
SMALL = {
    "model_type": "clip_vision_model", "hidden_act": "quick_gelu", "hidden_size": SMALL_WIDTH, "image_size": SIZE,
    "intermediate_size": 128, "num_attention_heads": 1, "num_channels": 3, "num_hidden_layers": 3, "patch_size": PATCH,
    "projection_dim": 32,
}  # fmt: skip


def write_tower(path: Path) -> None:
    """Write clip-vit-large-patch14-336, fp16, 600 MB; 24 times the same random layer.

    A pass through it takes seconds: only for what has to load it by the stock node.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, std: float) -> Tensor:
        return (torch.randn(shape, generator=generator) * std).half()

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + normal(WIDTH, std=0.1), f"{name}.bias": normal(WIDTH, std=0.1)}

    def linear(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(outputs, inputs, std=0.03), f"{name}.bias": normal(outputs, std=0.1)}

    layer = norm("layer_norm1") | norm("layer_norm2")
    layer |= {k: v for part in "qkv" for k, v in linear(f"self_attn.{part}_proj", WIDTH, WIDTH).items()}
    layer |= linear("self_attn.out_proj", WIDTH, WIDTH)
    layer |= linear("mlp.fc1", 4 * WIDTH, WIDTH) | linear("mlp.fc2", WIDTH, 4 * WIDTH)
    tower = norm("pre_layrnorm") | norm("post_layernorm")  # "layrnorm" is the published name
    tower |= {
        "embeddings.class_embedding": normal(WIDTH, std=1.0),
        "embeddings.patch_embedding.weight": normal(WIDTH, 3, PATCH, PATCH, std=0.05),
        "embeddings.position_embedding.weight": normal((SIZE // PATCH) ** 2 + 1, WIDTH, std=0.5),
    }
    for number in range(LAYERS):
        tower |= {f"encoder.layers.{number}.{name}": tensor.clone() for name, tensor in layer.items()}
    tower = {f"vision_model.{name}": tensor for name, tensor in tower.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tower | {"visual_projection.weight": normal(768, WIDTH, std=0.03)}, path)


# ---- nodes ----------------------------------------------------------------------------------------------------------


class KolorsTestTower:
    """A small CLIP_VISION of random weights that sees 336 pixels, as a Kolors adapter's does."""

    CATEGORY, FUNCTION, RETURN_TYPES = "Kolors/tests", "make", ("CLIP_VISION",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        import comfy.clip_vision

        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "tower.json")
            config.write_text(json.dumps(SMALL))
            tower = comfy.clip_vision.ClipVisionModel(str(config))
        generator = torch.Generator().manual_seed(0)
        shapes = {key: tensor.shape for key, tensor in tower.get_sd().items()}
        tower.load_sd({key: torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes.items()})
        return (tower,)


class KolorsTestMemory:
    """A CLIP_VISION that remembers what it saw: a pass through the large one takes seconds, and pictures come again."""

    CATEGORY, FUNCTION, RETURN_TYPES = "Kolors/tests", "wrap", ("CLIP_VISION",)
    seen: dict[str, tuple] = {}

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip_vision": ("CLIP_VISION",)}}

    def wrap(self, clip_vision):
        def remember(pixel_values: Tensor, intermediate_output: int):
            key = hashlib.sha256(pixel_values.cpu().numpy().tobytes()).hexdigest() + str(intermediate_output)
            if key not in self.seen:
                self.seen[key] = clip_vision.model(pixel_values=pixel_values, intermediate_output=intermediate_output)
            return self.seen[key]

        wrapped = copy.copy(clip_vision)
        wrapped.model = remember
        return (wrapped,)


class KolorsTestFace:
    """A face embedding, which no stock node gives."""

    CATEGORY, FUNCTION, RETURN_TYPES = "Kolors/tests", "make", ("FACE_EMBEDDING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0}), "width": ("INT", {"default": 512})}}

    def make(self, seed, width):
        return (face_embedding(seed, width),)


class KolorsTestConditioning:
    """A prompt for SDXL without its text encoders, which have 820 million weights."""

    CATEGORY, FUNCTION, RETURN_TYPES = "Kolors/tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def make(self, seed):
        generator = torch.Generator().manual_seed(seed)
        states, pooled = (torch.randn(shape, generator=generator) for shape in ((1, 77, 2048), (1, 1280)))
        return ([[states, {"pooled_output": pooled}]],)


class KolorsTestFaceAnalysis:
    """In the place of insightface: sees a small and a large face in every picture that is not black."""

    CATEGORY, FUNCTION, RETURN_TYPES = "Kolors/tests", "load", ("FACEANALYSIS",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return (self,)

    def prepare(self, ctx_id, det_size):
        pass

    def get(self, pixels):
        height, width, _ = pixels.shape
        small, large = (0, 0, width // 4, height // 4), (0, 0, width, height)
        faces = [{"bbox": box, "embedding": face_embedding(seed)[0].numpy()} for seed, box in enumerate((small, large))]
        return faces if pixels.any() else []


def face_embedding(seed: int, width: int = 512) -> Tensor:
    return torch.randn(1, width, generator=torch.Generator().manual_seed(seed))


NODES = (KolorsTestTower, KolorsTestMemory, KolorsTestFace, KolorsTestConditioning, KolorsTestFaceAnalysis)
NODE_CLASS_MAPPINGS = {node.__name__: node for node in NODES}
