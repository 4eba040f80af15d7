"""A node of the soak test's server, which counts what the process holds."""

from __future__ import annotations

import gc

import comfy.model_management
import comfy.model_patcher
import psutil
import torch


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


NODE_CLASS_MAPPINGS = {KolorsTestWatch.__name__: KolorsTestWatch}
