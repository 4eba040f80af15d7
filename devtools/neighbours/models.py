"""Write the models that the graphs load, of random weights: a script for an interpreter that has ComfyUI's packages.

    python devtools/neighbours/models.py COMFYUI MODELS_DIR

What is here: an SDXL by what ComfyUI recognises one by, with 320 channels in every level, and its two text encoders; a
Kolors of SDXL's depth and ChatGLM3's width, for packs that know it by these, and its UNet as GGUF; ControlNets and
LoRAs of both and of the miniature, which the package lists; what else a pack's nodes ask for. What is there stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import model_names as names
import torch
import weights
from safetensors.torch import save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))  # beside demo, which is there for the weights

import expand_clip_vision  # noqa: E402
import face_models  # noqa: E402
import random_models  # noqa: E402

SMALL_TOWER = ROOT / "demo/models/kolors-demo/image_encoder/kolors-demo-clip-vision.safetensors"
#: By family, the widths of the attentions that a LoRA is for.
LORAS = {names.MINIATURE: (128, 64), names.WIDE: (64, 64), names.SDXL: (320, 320)}
ATTENTIONS = ("input_blocks_4_1_transformer_blocks_0_attn2", "middle_block_1_transformer_blocks_0_attn1")


def makers() -> dict[str, Callable[[], dict[str, Tensor]]]:
    """The tensors of each file in safetensors."""
    found: dict[str, Callable[[], dict[str, Tensor]]] = {
        f"diffusion_models/{names.SDXL_UNET}": weights.random_sdxl,
        f"text_encoders/{names.CLIP_L}": partial(weights.random_clip, "SDClipModel", "comfy.sd1_clip"),
        f"text_encoders/{names.CLIP_G}": partial(weights.random_clip, "SDXLClipG", "comfy.sdxl_clip"),
        f"diffusion_models/{names.WIDE_UNET}": weights.wide_unet,
        f"text_encoders/{names.WIDE_ENCODER}": weights.wide_encoder,
        f"vae/{names.VAE}": random_models.random_vae,
        f"vae/{names.KL_VAE}": random_models.random_kl_vae,
        f"upscale_models/{names.UPSCALER}": weights.random_upscaler,
        f"ipadapter/{names.IP_ADAPTER}": partial(
            weights.ip_adapter, weights.WIDE, image_width=1024, width=2048, heads=12
        ),
        f"animatediff_models/{names.MOTION}": weights.empty_motion,
        f"layer_model/{names.LAYERS}": weights.random_layers,
        f"controlnet/{names.SDXL}.safetensors": weights.sdxl_control_net,
        f"controlnet/{names.WIDE}.safetensors": partial(weights.control_net, weights.WIDE),
        f"controlnet/{names.MINIATURE}.safetensors": partial(weights.control_net, weights.MINIATURE),
    }
    for name, widths in LORAS.items():
        found[f"loras/{name}.safetensors"] = partial(weights.random_lora, dict(zip(ATTENTIONS, widths)))
    for name, sizes in ((names.WIDE, weights.WIDE), (names.SDXL, weights.SDXL)):
        face = partial(weights.ip_adapter, sizes, 512, width=1280, heads=20)
        found[f"instantid/{name}.safetensors"] = face
    return found


def write(models: Path) -> None:
    for name, make in makers().items():
        put(models / name, lambda path, make=make: save_file(make(), path))
    put(models / "diffusion_models" / names.WIDE_GGUF, write_gguf)
    put(models / "clip_vision" / names.TOWER, partial(expand_clip_vision.write, SMALL_TOWER))
    put(models / "onnx" / names.DETECTOR, write_detector)
    faces = models / "insightface" / "models" / "antelopev2"
    put(faces / face_models.DETECTOR, face_models.write_detector)
    put(faces / face_models.RECOGNISER, face_models.write_recogniser)
    put(models / names.IMAGE, write_image)
    put(models / names.FACE, write_face)


def put(path: Path, save: Callable[[Path], None]) -> None:
    """A file that appears whole or not at all."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.partial")
        save(part)
        part.replace(path)


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
    for key, tensor in weights.wide_unet().items():
        values = tensor.float().numpy()
        packed = values.ndim == 2 and values.shape[1] % 32 == 0
        kind = gguf.GGMLQuantizationType.Q8_0 if packed else gguf.GGMLQuantizationType.F32
        writer.add_tensor(key, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_image(path: Path) -> None:
    """A red disc with a green leaf on a yellow slope, 128 pixels wide."""
    from PIL import Image, ImageDraw

    image = Image.linear_gradient("L").resize((128, 128)).convert("RGB")
    image = Image.blend(Image.new("RGB", image.size, (250, 200, 40)), image, 0.2)
    draw = ImageDraw.Draw(image)
    draw.ellipse((28, 36, 100, 108), fill=(200, 30, 40))
    draw.polygon([(64, 38), (80, 14), (96, 26)], fill=(40, 140, 60))
    image.save(path, "PNG")


def write_face(path: Path) -> None:
    """A face that the stand-in of a face detector finds."""
    from PIL import Image

    pixels = torch.full((1, 256, 256, 3), 0.2)
    pixels[..., 2] = 0.0
    face_models.draw(pixels, 128, 128, 80)
    Image.fromarray((pixels[0] * 255).round().byte().numpy()).save(path, "PNG")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    os.environ["COMFYUI_PATH"], folder = sys.argv[1:]
    write(Path(folder))
