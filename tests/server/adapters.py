"""The plain graph with IP-Adapters, and the random ones that it loads, for the small vision tower of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy
import torch
import vision_tower
from client import KolorsGraph, Link
from comfyui_kolors.demo.random_models import TINY, random_face_adapter, random_ip_adapter
from image_prompts import nested, picture
from PIL import Image
from safetensors.torch import save_file

PLUS, OTHER, FACE = "plus.safetensors", "other.safetensors", "faceid.bin"
ROUNDING = 1e-5  # relative L2: the same sums in another order

Tensors = dict[str, torch.Tensor]


class PictureGraph(KolorsGraph):
    """The plain graph with what an IP-Adapter needs."""

    def __init__(self):
        super().__init__()
        self.tower = self.add("KolorsTestTower")

    def picture(self, name: str = "apple") -> Link:
        return self.add("LoadImage", image=f"{name}.png")

    def mask(self, value: float, width: int = 64, height: int = 64) -> Link:
        return self.add("SolidMask", value=value, width=width, height=height)

    def apply(self, adapter: str = PLUS, node: str = "KolorsIPAdapterApply", **changes) -> Link:
        """The model with an adapter; `changes` are the Apply node's own inputs."""
        inputs = {
            "model": self.model,
            "ipadapter": self.add("KolorsIPAdapterLoader", ipadapter_name=adapter),
            "clip_vision": self.tower,
            "image": changes.get("image") or self.picture(),
            "weight": 0.8,
            "start_at": 0.0,
            "end_at": 1.0,
        }
        return self.add(node, **inputs | changes)

    def encode_image(self, name: str = "apple", **changes) -> Link:
        """An image prompt."""
        return self.add("KolorsImagePromptEncode", clip_vision=self.tower, image=self.picture(name), **changes)

    def apply_prompt(self, image_prompt: Link, **changes) -> Link:
        inputs = {
            "model": self.model,
            "ipadapter": self.add("KolorsIPAdapterLoader", ipadapter_name=PLUS),
            "image_prompt": image_prompt,
            "weight": 0.8,
            "start_at": 0.0,
            "end_at": 1.0,
        }
        return self.add("KolorsImagePromptApply", **inputs | changes)

    def apply_face(self, adapter: str = FACE, **changes) -> Link:
        return self.apply(adapter, "KolorsFaceIDApply", **changes)


def draw(server, change: Callable[[PictureGraph], Link] | None = None, **sampling):
    """The latent of the plain graph with the model that `change` makes of it."""
    graph = PictureGraph()
    if change:
        graph.model = change(graph)
    return server.latent(graph, graph.sample(**sampling))


def with_adapter(**changes):
    """A change for `draw`; a mask or picture is given as a function of the graph."""

    def change(graph):
        return graph.apply(**{name: value(graph) if callable(value) else value for name, value in changes.items()})

    return change


def plus(sizes=TINY, seed: int = 0, **changes) -> Tensors:
    return random_ip_adapter(sizes, vision_tower.SMALL_WIDTH, seed=seed, **changes)


def face(sizes=TINY) -> Tensors:
    return random_face_adapter(sizes, vision_tower.SMALL_WIDTH)


def write(base: Path) -> None:
    """The adapters, and the pictures apple, boat, cloud (not square) and black."""
    (base / "models/ipadapter").mkdir(exist_ok=True)
    for seed, name in enumerate((PLUS, OTHER)):
        save_file(plus(seed=seed), base / "models/ipadapter" / name)
    torch.save(nested(face()), base / "models/ipadapter" / FACE)
    (base / "input").mkdir(exist_ok=True)
    for seed, (name, width) in enumerate({"apple": 336, "boat": 336, "cloud": 500}.items()):
        pixels = (picture(width, 336, seed)[0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(base / "input" / f"{name}.png")
    Image.fromarray(numpy.zeros((64, 64, 3), numpy.uint8)).save(base / "input" / "black.png")
