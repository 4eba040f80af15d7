"""Write the models that the graphs load, of random weights: a script for an interpreter that has ComfyUI's packages.

    python devtools/neighbours/models.py COMFYUI MODELS_DIR

What is here: an SDXL by what ComfyUI recognises one by, with 320 channels in every level, and its two text encoders; a
Kolors of SDXL's depth and ChatGLM3's width, for packs that know it by these, and its UNet as GGUF; ControlNets and
LoRAs of both and of the miniature, which the package lists; an IP-Adapter, an upscaler, a detector and a motion module.
What is there stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

if __package__:
    from ...demo import expand_clip_vision, random_models
else:  # a script
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "demo")
    import expand_clip_vision
    import random_models

SDXL_UNET, CLIP_L, CLIP_G = "sdxl-random.safetensors", "clip_l-random.safetensors", "clip_g-random.safetensors"
WIDE = random_models.Sizes(hidden=4096, head_dim=128, layers=1, ffn=64, depth=(2, 10), context=2048)
WIDE_UNET, WIDE_ENCODER = "kolors-wide-random.safetensors", "chatglm3-wide-random.safetensors"
DEMO = Path(__file__).resolve().parents[2] / "demo" / "models" / "kolors-demo"
SMALL_TOWER = DEMO / "image_encoder" / "kolors-demo-clip-vision.safetensors"
DEMO_SIZES = random_models.Sizes(hidden=128, head_dim=32, layers=4, channels=(64, 128, 64), context=128)
CONTROL_NETS = {"kolors-demo": DEMO_SIZES, "kolors-wide": WIDE}
GGUF_UNET, UPSCALER = "kolors-wide-Q8_0.gguf", "4x-random.safetensors"
ATTENTIONS = (
    "input_blocks_4_1_transformer_blocks_0_attn2",
    "middle_block_1_transformer_blocks_0_attn1",
)
VAE, KL_VAE = "random-taesd.safetensors", "kl-random.safetensors"
ADAPTER, MOTION = "kolors-wide-plus.safetensors", "motion-sd15-empty.safetensors"
DETECTOR, TOWER, PICTURE = "one-box.onnx", "kolors-demo-clip-vision.pt", "neighbours.png"
#: Names of what there is of each family, with the widths of these two attentions.
LORAS = {"kolors-demo": (128, 64), "kolors-wide": (64, 64), "sdxl": (320, 320)}


def write(models: Path) -> None:
    makers: dict[str, Callable[[], dict[str, Tensor]]] = {
        f"diffusion_models/{SDXL_UNET}": random_sdxl,
        f"text_encoders/{CLIP_L}": lambda: random_clip("SDClipModel", "comfy.sd1_clip"),
        f"text_encoders/{CLIP_G}": lambda: random_clip("SDXLClipG", "comfy.sdxl_clip"),
        f"diffusion_models/{WIDE_UNET}": wide_unet,
        f"text_encoders/{WIDE_ENCODER}": wide_encoder,
        f"upscale_models/{UPSCALER}": random_upscaler,
        f"vae/{VAE}": random_models.random_vae,
        f"vae/{KL_VAE}": kl_vae,
        f"ipadapter/{ADAPTER}": lambda: halve(random_models.random_ip_adapter(WIDE, 1024, width=2048, heads=12)),
        f"animatediff_models/{MOTION}": empty_motion,
        "controlnet/sdxl.safetensors": sdxl_control_net,
    }
    for name, widths in LORAS.items():
        makers[f"loras/{name}.safetensors"] = lambda widths=widths: random_lora(dict(zip(ATTENTIONS, widths)))
    for name, sizes in CONTROL_NETS.items():
        makers[f"controlnet/{name}.safetensors"] = lambda sizes=sizes: (
            random_models.random_control_net(sizes).half().state_dict()
        )
    for name, make in makers.items():
        put(models / name, lambda path, make=make: save_file(make(), path))
    put(models / "diffusion_models" / GGUF_UNET, write_gguf)
    put(models / "onnx" / DETECTOR, write_detector)
    put(models / PICTURE, write_picture)
    put(models / "clip_vision" / TOWER, lambda path: expand_clip_vision.write(SMALL_TOWER, path))


def put(path: Path, save: Callable[[Path], None]) -> None:
    """A file that appears whole or not at all."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.partial")
        save(part)
        part.replace(path)


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
    import importlib

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


def kl_vae() -> dict[str, Tensor]:
    """SDXL's autoencoder in its size, which ComfyUI knows it by, for packs that take a VAE apart."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    )
    return halve(vae.state_dict())


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


def write_detector(path: Path) -> None:
    """A detector with the outputs of those that Impact Pack takes, which finds one box in any picture of 128 pixels."""
    import onnx
    from onnx import TensorProto, helper

    found = {
        "labels": (TensorProto.INT32, [1, 2], [0, -1]),
        "scores": (TensorProto.FLOAT, [1, 2], [1.0, 0.0]),
        "boxes": (TensorProto.FLOAT, [1, 2, 4], [40, 40, 88, 88, 0, 0, 0, 0]),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, shape, values))
        for name, (kind, shape, values) in found.items()
    ]
    outputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape, _) in found.items()]
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, None, None, 3])
    graph = helper.make_graph(nodes, "one box", [picture], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def write_gguf(path: Path) -> None:
    """The wide UNet as ComfyUI-GGUF's tools make it: the file's own names, Q8_0 where rows are long enough."""
    import gguf

    writer = gguf.GGUFWriter(path, "sdxl")
    for key, tensor in wide_unet().items():
        values = tensor.float().numpy()
        packed = values.ndim == 2 and values.shape[1] % 32 == 0
        kind = gguf.GGMLQuantizationType.Q8_0 if packed else gguf.GGMLQuantizationType.F32
        writer.add_tensor(key, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_picture(path: Path) -> None:
    """A red disc with a green leaf on a yellow slope, 128 pixels wide."""
    from PIL import Image, ImageDraw

    image = Image.linear_gradient("L").resize((128, 128)).convert("RGB")
    image = Image.blend(Image.new("RGB", image.size, (250, 200, 40)), image, 0.2)
    draw = ImageDraw.Draw(image)
    draw.ellipse((28, 36, 100, 108), fill=(200, 30, 40))
    draw.polygon([(64, 38), (80, 14), (96, 26)], fill=(40, 140, 60))
    image.save(path, "PNG")


def enter_host() -> None:
    """Make the modules of the ComfyUI that COMFYUI_PATH names importable, for its CPU."""
    if os.environ["COMFYUI_PATH"] not in sys.path:
        sys.path.insert(1, os.environ["COMFYUI_PATH"])
        sys.argv[1:] = ["--cpu"]
        import comfy.options

        comfy.options.enable_args_parsing()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    os.environ["COMFYUI_PATH"], folder = sys.argv[1:]
    write(Path(folder))
