"""The models that a try is drawn with, as the loaders of a server list them."""

from __future__ import annotations

from typing import Any

from . import model_names as names
from .scene import Family

COMMON: dict[str, Any] = {
    "image": names.IMAGE,
    "face": names.FACE,
    "upscaler": names.UPSCALER,
    "vae": names.VAE,
    "kl_vae": names.KL_VAE,
    "detector": names.DETECTOR,
    "gguf": names.WIDE_GGUF,
    "tower": names.TOWER,
    "ip_adapter": names.IP_ADAPTER,
    "motion": names.MOTION,
}
VAE = ("VAELoader", {"vae_name": names.VAE}, 0)
DEMO = ("KolorsCheckpointLoader", {"ckpt_name": names.MINIATURE})


def files(name: str, unet: str) -> dict[str, Any]:
    """Those of a family, of which several have its name."""
    file = f"{name}.safetensors"
    own = dict.fromkeys(("lora", "control_net", "instant_id"), file) | {"unet": unet, "lora_tag": f"<lora:{name}:1>"}
    return COMMON | own | {"lora_switch": {"on": True, "lora": file, "strength": 1.0}}


def kolors_control_net(name: str) -> tuple[str, dict[str, Any], int]:
    return ("KolorsControlNetLoader", {"control_net_name": f"{name}.safetensors"}, 0)


KOLORS = Family(
    "Kolors",
    ("KolorsUNETLoader", {"unet_name": names.WIDE_UNET}, 0),
    ("KolorsChatGLM3Loader", {"text_encoder_name": names.WIDE_ENCODER}, 0),
    VAE,
    kolors_control_net(names.WIDE),
    files(names.WIDE, names.WIDE_UNET),
)
SDXL = Family(
    "SDXL",
    ("UNETLoader", {"unet_name": names.SDXL_UNET}, 0),
    ("DualCLIPLoader", {"clip_name1": names.CLIP_L, "clip_name2": names.CLIP_G, "type": "sdxl"}, 0),
    VAE,
    ("ControlNetLoader", {"control_net_name": f"{names.SDXL}.safetensors"}, 0),
    files(names.SDXL, names.SDXL_UNET),
)
#: For images to look at: the trained one.
MINIATURE = Family(
    "miniature",
    (*DEMO, 0),
    (*DEMO, 1),
    (*DEMO, 2),
    kolors_control_net(names.MINIATURE),
    files(names.MINIATURE, f"{names.MINIATURE}-unet.safetensors"),
)
