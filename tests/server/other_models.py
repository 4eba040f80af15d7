"""Files of other kinds than a loader expects, which users take for the right one."""

from __future__ import annotations

from pathlib import Path

import torch

SOURCES = "huggingface.co, hf-mirror.com or modelscope.cn"  # where a message sends users

Tensors = dict[str, torch.Tensor]


class CreateFile:
    """Unpickled by a loader that executes what it reads, this creates a file."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def kl_vae() -> Tensors:
    """The names of the SDXL VAE in diffusers' layout."""
    return {
        "encoder.conv_in.weight": torch.zeros(8, 3, 3, 3),
        "encoder.down_blocks.0.resnets.0.conv1.weight": torch.zeros(8, 8, 3, 3),
        "decoder.conv_in.weight": torch.zeros(8, 4, 3, 3),
        "quant_conv.weight": torch.zeros(8, 8, 1, 1),
    }


def lora(style: str) -> Tensors:
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    names = {
        "diffusers": (f"unet.{layer}.lora.down.weight", f"unet.{layer}.lora.up.weight"),
        "peft": (f"unet.{layer}.lora_A.weight", f"unet.{layer}.lora_B.weight"),
        "kohya": tuple(f"lora_unet_{layer.replace('.', '_')}.lora_{part}.weight" for part in ("down", "up")),
    }
    down, up = names[style]
    return {down: torch.zeros(4, 64), up: torch.zeros(64, 4)}
