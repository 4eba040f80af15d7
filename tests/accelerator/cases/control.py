"""ControlNets of Kolors and of SDXL, and Control-LoRAs."""

from __future__ import annotations

from torch import Tensor

from . import files
from .parts import controlled, draw, half_mask, load, with_lora, with_picture


def adapted(file, model) -> Tensor:
    """A net of SDXL on the model that it is adapted to."""
    return draw(model, cond=controlled(file, model))


def adapted_after_sampling() -> Tensor:
    model = load()
    draw(model)
    return adapted(files.sdxl_control_net, model)


def everything() -> Tensor:
    model = with_picture(with_lora(load(), 0.5), mask=half_mask())
    return draw(model, cond=controlled(files.kolors_control_net))


CASES = {
    "control kolors": lambda: draw(load(), cond=controlled(files.kolors_control_net)),
    "control range": lambda: draw(load(), cond=controlled(files.kolors_control_net, start=0.2, end=0.6), steps=6),
    "control sdxl": lambda: adapted(files.sdxl_control_net, load()),
    "control sdxl after sampling": adapted_after_sampling,
    "control lora": lambda: adapted(files.control_lora, load()),
    "control lora on lora": lambda: adapted(files.control_lora, with_lora(load())),
    "control lora on fp8": lambda: adapted(files.control_lora, load(dtype="fp8_e4m3fn")),
    "control, ip, lora, mask": everything,
}
