"""Packs that load model files: GGUF, several devices, LoRAs."""

from __future__ import annotations

from ..scene import PROMPT
from .recipe import DRAWS, KEEPS, Inputs, Pack, file, given, node

GGUF: Inputs = {"unet_name": file("gguf")}
UNET: Inputs = {"unet_name": file("unet")}

PACKS = {
    "ComfyUI-GGUF": Pack((node("UnetLoaderGGUF", DRAWS, **GGUF), node("UnetLoaderGGUFAdvanced", DRAWS, **GGUF))),
    "ComfyUI-MultiGPU": Pack(
        (
            node("UNETLoaderMultiGPU", KEEPS, **UNET),
            node("UNETLoaderDisTorch2MultiGPU", KEEPS, **UNET),
            node("VAELoaderMultiGPU", KEEPS, vae_name=file("vae")),
        ),
        "It places UNet and VAE. Load text encoder and ControlNets with this package's own loaders.",
        "UNet 和 VAE 可以由它放到各设备上；文本编码器和 ControlNet 请用本插件自己的加载节点。",
    ),
    "ComfyUI-Lora-Manager": Pack(
        (
            node("LoRA Text Loader (LoraManager)", lora_syntax=file("lora_tag"), clip=given("CLIP")),
            node("Prompt (LoraManager)", KEEPS, text=PROMPT),
            node("Unet Loader (LoraManager)", KEEPS, **UNET),
        )
    ),
}
