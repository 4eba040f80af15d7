"""Weights of small networks under the names that their files have; for models.py, a script, and for the tests."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __package__:
    from ...demo import random_models
else:  # imported by the script
    sys.path.append(str(Path(__file__).resolve().parents[2] / "demo"))
    import random_models

#: SDXL's blocks and ChatGLM3's width, but few channels.
WIDE = random_models.Sizes(hidden=4096, head_dim=128, layers=1, ffn=64, depth=(2, 10), context=2048)
MINIATURE = random_models.Sizes(hidden=128, head_dim=32, layers=4, channels=(64, 128, 64), context=128)
SDXL = random_models.Sizes(channels=(320, 320, 320), depth=(2, 10), context=2048)
#: SDXL's own layout but for the widths of its levels, which are all the first one's.
SDXL_LAYOUT: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 320,
    "channel_mult": [1, 1, 1],
    "num_res_blocks": [2, 2, 2],
    "num_head_channels": 64,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_middle": 10,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "legacy": False,
    "device": "meta",
}


def random_sdxl() -> dict[str, Tensor]:
    """A UNet by what the host recognises SDXL by: 220 million weights, fp16."""
    enter_host()
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    depth = [0, 0, 0, 2, 2, 2, 10, 10, 10]
    network = UNetModel(
        out_channels=4, transformer_depth_output=depth, operations=comfy.ops.disable_weight_init, **SDXL_LAYOUT
    )
    return random_values(network)


def sdxl_control_net() -> dict[str, Tensor]:
    """One of that SDXL, under the host's own names."""
    enter_host()
    import comfy.ops
    from comfy.cldm.cldm import ControlNet

    return random_values(ControlNet(hint_channels=3, operations=comfy.ops.disable_weight_init, **SDXL_LAYOUT))


def random_values(network: torch.nn.Module) -> dict[str, Tensor]:
    """fp16 weights of the network's shapes that keep the size of what passes through them."""
    generator = torch.Generator().manual_seed(0)

    def weights(shape: torch.Size) -> Tensor:
        if len(shape) == 1:  # a norm, or a bias
            return torch.ones(shape, dtype=torch.float16)
        return (torch.randn(shape, generator=generator) / shape[1:].numel() ** 0.5).half()

    return {key: weights(tensor.shape) for key, tensor in network.state_dict().items()}


def random_clip(name: str, module: str) -> dict[str, Tensor]:
    """CLIP-L or CLIP-G under the names of their files."""
    enter_host()
    model = getattr(importlib.import_module(module), name)(device="meta", dtype=torch.float16)
    values = random_values(model)
    return {
        key.removeprefix("transformer."): tensor for key, tensor in values.items() if key.startswith("transformer.")
    }


def wide_unet() -> dict[str, Tensor]:
    """Under ComfyUI's own names, by which its own loaders know a UNet of other than the released widths."""
    enter_host()
    import comfy.utils

    first, second = WIDE.depth
    layout = {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 2],
        "transformer_depth": [0, 0, first, first, second, second],
        "transformer_depth_output": [0, 0, 0, first, first, first, second, second, second],
        "transformer_depth_middle": second,
    }
    names = comfy.utils.unet_to_diffusers(layout)
    unet = random_models.random_unet(WIDE).half().state_dict()
    return {names.get(key, key): tensor for key, tensor in unet.items()}


def wide_encoder() -> dict[str, Tensor]:
    import sentencepiece

    tokenizer = random_models.random_tokenizer()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer).vocab_size()
    values = random_models.random_chatglm3(WIDE, pieces)
    return {k: v.half() for k, v in values.items()} | random_models.tokenizer_tensors(tokenizer)


def random_upscaler() -> dict[str, Tensor]:
    """An ESRGAN of one block, which makes pictures four times as wide, under its first names."""
    generator = torch.Generator().manual_seed(0)

    def convolution(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5
        return {f"{name}.weight": weight, f"{name}.bias": torch.full((outputs,), 0.1)}

    width, growth = 16, 32  # the growth is fixed
    tensors = convolution("model.0", width, 3)
    for block in (1, 2, 3):
        for number in range(1, 6):
            inputs, outputs = width + (number - 1) * growth, growth if number < 5 else width
            tensors |= convolution(f"model.1.sub.0.RDB{block}.conv{number}.0", outputs, inputs)
    tensors |= convolution("model.1.sub.1", width, width)
    for name, outputs in (("model.3", width), ("model.6", width), ("model.8", width), ("model.10", 3)):
        tensors |= convolution(name, outputs, width)
    return tensors


def random_lora(widths: dict[str, int]) -> dict[str, Tensor]:
    """Of the outputs of some attentions, whose width is given, by kohya's names of SDXL."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for attention, width in widths.items():
        stem = f"lora_unet_{attention}_to_out_0"
        tensors[f"{stem}.lora_down.weight"] = torch.randn(4, width, generator=generator) / width**0.5
        tensors[f"{stem}.lora_up.weight"] = torch.randn(width, 4, generator=generator) * 0.3
        tensors[f"{stem}.alpha"] = torch.tensor(4.0)
    return tensors


def halve(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.half() for key, tensor in tensors.items()}


def empty_motion() -> dict[str, Tensor]:
    """A motion module of SD 1.5, all zeros: AnimateDiff-Evolved reads it whole before it compares what it is for."""
    widths = (320, 640, 1280, 1280)
    places = [(f"down_blocks.{level}", 2, width) for level, width in enumerate(widths)]
    places += [(f"up_blocks.{level}", 3, width) for level, width in enumerate(reversed(widths))]
    shapes: dict[str, tuple[int, ...]] = {}
    for place, count, width in places:
        for number in range(count):
            module = f"{place}.motion_modules.{number}.temporal_transformer"
            block, line = f"{module}.transformer_blocks.0", (width, width)
            for name in (f"{module}.norm", *(f"{block}.{norm}" for norm in ("norms.0", "norms.1", "ff_norm"))):
                shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
            for name in (f"{module}.proj_in", f"{module}.proj_out"):
                shapes |= {f"{name}.weight": line, f"{name}.bias": (width,)}
            for attention in (f"{block}.attention_blocks.0", f"{block}.attention_blocks.1"):
                shapes |= {f"{attention}.to_{part}.weight": line for part in ("q", "k", "v", "out.0")}
                shapes |= {f"{attention}.to_out.0.bias": (width,), f"{attention}.pos_encoder.pe": (1, 24, width)}
            shapes |= {f"{block}.ff.net.0.proj.weight": (8 * width, width), f"{block}.ff.net.0.proj.bias": (8 * width,)}
            shapes |= {f"{block}.ff.net.2.weight": (width, 4 * width), f"{block}.ff.net.2.bias": (width,)}
    return {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}


def random_layers() -> dict[str, Tensor]:
    """A patch as LayerDiffuse's files hold it, of one attention of the wide Kolors."""
    generator, key = torch.Generator().manual_seed(0), "diffusion_model.input_blocks.4.1.transformer_blocks.0"
    return {
        f"{key}.attn1.to_q.weight::lora::0": torch.randn(64, 4, generator=generator) * 0.3,
        f"{key}.attn1.to_q.weight::lora::1": torch.randn(4, 64, generator=generator) * 0.3,
    }


def ip_adapter(sizes: random_models.Sizes, image_width: int, width: int, heads: int) -> dict[str, Tensor]:
    """An IP-Adapter Plus in fp16; InstantID's, which takes a face's embedding for an image, has the same layers."""
    return halve(random_models.random_ip_adapter(sizes, image_width, width=width, heads=heads))


def control_net(sizes: random_models.Sizes) -> dict[str, Tensor]:
    return halve(random_models.random_control_net(sizes).state_dict())


def enter_host() -> None:
    """Make the modules of the ComfyUI that COMFYUI_PATH names importable, for its CPU."""
    if os.environ["COMFYUI_PATH"] not in sys.path:
        sys.path.insert(1, os.environ["COMFYUI_PATH"])
        sys.argv[1:] = ["--cpu"]
        import comfy.options

        comfy.options.enable_args_parsing()
