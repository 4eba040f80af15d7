"""A pack of the browser's servers: what the host's vision towers gave for a picture, they give for it again.

The one tower that the stock loader knows takes seconds for a picture, and the templates show the same few in both
renderers. What comes back is the very tensors of the first time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import comfy.clip_vision
from torch import Tensor

load_tower = comfy.clip_vision.load
seen: dict[tuple, tuple] = {}
NODE_CLASS_MAPPINGS = {}


def load(path: str):
    """The host's function for a file of a tower."""
    tower = load_tower(path)
    tower.model.forward = remembering(tower.model.forward, path)
    return tower


def remembering(forward: Callable[..., tuple], path: str) -> Callable[..., tuple]:
    def remember(pixel_values: Tensor, **options) -> tuple:
        pixels = hashlib.sha256(pixel_values.cpu().numpy().tobytes()).hexdigest()
        key = path, pixel_values.shape, pixels, *sorted(options.items())
        if key not in seen:
            seen[key] = forward(pixel_values=pixel_values, **options)
        return tuple(value.clone() if isinstance(value, Tensor) else value for value in seen[key])

    return remember


comfy.clip_vision.load = load
