"""All that the cases use of the pack."""

import loaders
from comfyui_kolors.demo import random_models
from comfyui_kolors.kolors_core.files.conditioning import load_conditioning, save_conditioning
from comfyui_kolors.kolors_core.files.image_prompt import save_image_prompt
from comfyui_kolors.kolors_core.host import control_net, lora, sampling, unet
from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
from comfyui_kolors.kolors_core.host.ip_adapter import face, image_prompt
from comfyui_kolors.kolors_core.host.text_encoder import conditioning

__all__ = [
    "conditioning",
    "control_net",
    "face",
    "image_prompt",
    "ip_adapter",
    "load_conditioning",
    "loaders",
    "lora",
    "random_models",
    "sampling",
    "save_conditioning",
    "save_image_prompt",
    "unet",
]

unet.register()
