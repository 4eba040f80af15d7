"""The pack's loaders by one name; importable where a ComfyUI is."""

from comfyui_kolors.kolors_core.host.checkpoint import load_checkpoint
from comfyui_kolors.kolors_core.host.text_encoder.load import load_text_encoder
from comfyui_kolors.kolors_core.host.unet_file import WEIGHT_DTYPES, load_unet

__all__ = ["WEIGHT_DTYPES", "load_checkpoint", "load_text_encoder", "load_unet"]
