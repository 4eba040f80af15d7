"""The models that a try is drawn with, as the loaders of a server list them."""

from __future__ import annotations

from typing import Any

from .scene import Family

COMMON: dict[str, Any] = {
    "picture": "neighbours.png",
    "upscaler": "4x-random.safetensors",
    "vae": "random-taesd.safetensors",
    "kl_vae": "kl-random.safetensors",
    "detector": "one-box.onnx",
    "gguf": "kolors-wide-Q8_0.gguf",
    "tower": "kolors-demo-clip-vision.pt",
    "ip_adapter": "kolors-wide-plus.safetensors",
    "motion": "motion-sd15-empty.safetensors",
}
VAE = ("VAELoader", {"vae_name": COMMON["vae"]}, 0)
DEMO = ("KolorsCheckpointLoader", {"ckpt_name": "kolors-demo"})


def files(name: str, unet: str) -> dict[str, Any]:
    """Those of a family, whose ControlNet and LoRA have its name."""
    lora = {"lora": f"{name}.safetensors", "lora_tag": f"<lora:{name}:1>"}
    switch = {"on": True, "lora": f"{name}.safetensors", "strength": 1.0}
    return COMMON | lora | {"lora_switch": switch, "control_net": f"{name}.safetensors", "unet": unet}


KOLORS = Family(
    "Kolors",
    ("KolorsUNETLoader", {"unet_name": "kolors-wide-random.safetensors"}, 0),
    ("KolorsChatGLM3Loader", {"text_encoder_name": "chatglm3-wide-random.safetensors"}, 0),
    VAE,
    ("KolorsControlNetLoader", {"control_net_name": "kolors-wide.safetensors"}, 0),
    files("kolors-wide", "kolors-wide-random.safetensors"),
)
SDXL = Family(
    "SDXL",
    ("UNETLoader", {"unet_name": "sdxl-random.safetensors"}, 0),
    (
        "DualCLIPLoader",
        {"clip_name1": "clip_l-random.safetensors", "clip_name2": "clip_g-random.safetensors", "type": "sdxl"},
        0,
    ),
    VAE,
    ("ControlNetLoader", {"control_net_name": "sdxl.safetensors"}, 0),
    files("sdxl", "sdxl-random.safetensors"),
)
#: For pictures to look at: the trained one.
MINIATURE = Family(
    "miniature",
    (*DEMO, 0),
    (*DEMO, 1),
    (*DEMO, 2),
    ("KolorsControlNetLoader", {"control_net_name": "kolors-demo.safetensors"}, 0),
    files("kolors-demo", "kolors-demo-unet.safetensors"),
)
