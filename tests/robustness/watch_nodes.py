"""Nodes of the soak test's server: one that counts what the process holds, and a vision tower that takes no seconds."""

from __future__ import annotations

import gc
import json
import tempfile
from pathlib import Path

import comfy.clip_vision
import comfy.model_management
import comfy.model_patcher
import psutil
import torch

TOWER = {
    "model_type": "clip_vision_model", "hidden_act": "quick_gelu", "hidden_size": 64, "image_size": 336,
    "intermediate_size": 128, "num_attention_heads": 1, "num_channels": 3, "num_hidden_layers": 2, "patch_size": 112,
    "projection_dim": 32,
}  # fmt: skip


class KolorsTestWatch:
    """What the server's process holds after a collection of garbage."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "Kolors/tests", "watch", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    def watch(self):
        gc.collect()
        alive = [type(thing) for thing in gc.get_objects()]
        process = psutil.Process()
        files = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        figures = {
            "memory": process.memory_info().rss,
            "files": files,
            "threads": process.num_threads(),
            "patchers": sum(issubclass(kind, comfy.model_patcher.ModelPatcher) for kind in alive),
            "modules": sum(issubclass(kind, torch.nn.Module) for kind in alive),
            "loaded": len(comfy.model_management.current_loaded_models),
        }
        return {"ui": {"figures": [figures]}}


class KolorsTestSmallTower:
    """A CLIP_VISION of random weights that sees 336 pixels, as a Kolors adapter's does."""

    CATEGORY, FUNCTION, RETURN_TYPES = "Kolors/tests", "make", ("CLIP_VISION",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "tower.json")
            config.write_text(json.dumps(TOWER))
            tower = comfy.clip_vision.ClipVisionModel(str(config))
        generator = torch.Generator().manual_seed(0)
        weights = {key: tensor.shape for key, tensor in tower.get_sd().items()}
        tower.load_sd({key: torch.randn(shape, generator=generator) * 0.1 for key, shape in weights.items()})
        return (tower,)


NODE_CLASS_MAPPINGS = {node.__name__: node for node in (KolorsTestWatch, KolorsTestSmallTower)}
