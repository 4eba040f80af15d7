"""All that the cases use of the pack."""

from comfyui_kolors.demo import random_models
from comfyui_kolors.kolors_core.host import (
    conditioning,
    control_net,
    face,
    ip_adapter,
    loaders,
    lora,
    sampling,
    unet,
)
from comfyui_kolors.kolors_core.prompt_file import load_conditioning, save_conditioning

__all__ = [
    "conditioning",
    "control_net",
    "face",
    "ip_adapter",
    "load_conditioning",
    "loaders",
    "lora",
    "random_models",
    "sampling",
    "save_conditioning",
    "unet",
]

unet.register()
