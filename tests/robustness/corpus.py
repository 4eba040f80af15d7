"""Good small files of every kind that the pack reads, as the starting points of damaged ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import sentencepiece
import torch
from comfyui_kolors.demo.random_models import (
    TINY,
    random_chatglm3,
    random_control_net,
    random_face_adapter,
    random_ip_adapter,
    random_tokenizer,
    random_unet,
    random_vae,
)
from comfyui_kolors.kolors_core.quantization import quantize
from control_nets import random_control_lora
from image_prompts import nested
from loras import random_pairs, written
from torch import Tensor

#: As small as the topology allows: what is damaged does not depend on the size, and a thousand files are read.
SIZES = replace(TINY, layers=2, depth=(1, 1), context=64)
IMAGE_WIDTH = 64  # of the vision tower that the adapters read
TOKENIZER = random_tokenizer()
PIECES = sentencepiece.SentencePieceProcessor(model_proto=TOKENIZER).vocab_size()

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Good:
    """A file that loads: its tensors, how it is stored, and how it is read.

    read: takes a path and what `Readers` knows. suffix: .safetensors, or .bin and .ckpt for torch's pickles.
    """

    name: str
    tensors: Tensors
    read: Callable
    suffix: str = ".safetensors"
    metadata: dict[str, str] = field(default_factory=dict)


class Readers:
    """The pack's functions behind the loader nodes, each of which gets a path; imported once the host is there."""

    def __init__(self, folder: Path):
        from comfyui_kolors.kolors_core.host import control_net, ip_adapter, loaders, lora, unet
        from safetensors.torch import save_file

        unet.register()
        self.loaders, self.adapters, self.control_nets, self.loras = loaders, ip_adapter, control_net, lora
        save_file(unet_tensors(), folder / "model.safetensors")
        self.model = loaders.load_unet(folder / "model.safetensors")

    def unet(self, path):
        return self.loaders.load_unet(path)

    def encoder(self, path):
        return self.loaders.load_text_encoder(path)

    def checkpoint(self, path):
        return self.loaders.load_checkpoint(path)

    def adapter(self, path):
        return self.adapters.load_ip_adapter(path)

    def control_net(self, path):
        return self.control_nets.load_control_net(path, self.model)

    def lora(self, path):
        return self.loras.apply_lora(self.model, None, path, 1.0, 1.0)

    def conditioning(self, path):
        from comfyui_kolors.kolors_core.prompt_file import load_conditioning

        return load_conditioning(path)


def unet_tensors(channels: int = 4) -> Tensors:
    return dict(random_unet(SIZES, channels).state_dict())


def encoder_tensors(bits: int | None = None) -> Tensors:
    tensors = random_chatglm3(SIZES, PIECES)
    if bits:
        for key in [key for key in tensors if key.startswith("encoder.layers") and tensors[key].ndim == 2]:
            tensors[key], tensors[f"{key}_scale"] = quantize(tensors[key], bits)
    return tensors | {"spiece_model": torch.frombuffer(bytearray(TOKENIZER), dtype=torch.uint8)}


def conditioning_tensors() -> tuple[Tensors, dict[str, str]]:
    from comfyui_kolors.kolors_core.prompt_file import FORMAT

    tensors = {"0.states": torch.randn(1, 20, SIZES.hidden), "0.pooled_output": torch.randn(1, SIZES.hidden)}
    entries = json.dumps([{"padding": 237, "extra": {"width": 64, "height": 64}}])
    return tensors, {"format": FORMAT, "entries": entries}


def good_files() -> list[Good]:
    """One of every kind and layout."""
    from comfyui_kolors.kolors_core.host.control_net import to_sd_names
    from comfyui_kolors.kolors_core.host.loaders import extract_unet

    unet = unet_tensors()
    sd_unet = {f"model.diffusion_model.{key}": value for key, value in extract_unet(unet, "unet").items()}
    encoder = encoder_tensors()
    checkpoint = sd_unet | {f"text_encoders.chatglm3.transformer.{key}": value for key, value in encoder.items()}
    control_net = dict(random_control_net(SIZES).state_dict())
    sdxl = to_sd_names(dict(random_control_net(SIZES, label_width=2816).state_dict()))
    plus, face = random_ip_adapter(SIZES, IMAGE_WIDTH, depth=1), random_face_adapter(SIZES, IMAGE_WIDTH, depth=1)
    pairs = random_pairs(random_unet(SIZES))
    conditioning, entries = conditioning_tensors()
    return [
        Good("unet in diffusers layout", unet, Readers.unet),
        Good("inpainting unet", unet_tensors(9), Readers.unet),
        Good("unet in sd layout", sd_unet, Readers.unet),
        Good("encoder", encoder, Readers.encoder),
        Good("encoder with a config", encoder, Readers.encoder, metadata={"config": json.dumps({"kv_channels": 16})}),
        Good("encoder in 8 bits", encoder_tensors(8), Readers.encoder),
        Good("encoder in 4 bits", encoder_tensors(4), Readers.encoder),
        Good("encoder as a pickle", encoder, Readers.encoder, ".bin"),
        Good("checkpoint", checkpoint | random_vae(), Readers.checkpoint),
        Good("control net", control_net, Readers.control_net),
        Good("sdxl control net", sdxl, Readers.control_net),
        Good("control lora", random_control_lora(sdxl), Readers.control_net),
        Good("ip-adapter", plus, Readers.adapter),
        Good("ip-adapter as a pickle", nested(plus), Readers.adapter, ".bin"),
        Good("face adapter", face, Readers.adapter),
        Good("lora of diffusers", written(pairs, "unet.{}".format, ".lora_A.weight", ".lora_B.weight"), Readers.lora),
        Good(
            "lora of kohya",
            written(pairs, lambda m: "lora_unet_" + m.replace(".", "_"), ".lora_down.weight", ".lora_up.weight", 4),
            Readers.lora,
            ".ckpt",
        ),
        Good("conditioning", conditioning, Readers.conditioning, metadata=entries),
    ]
