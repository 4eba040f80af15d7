"""Tiny models under the very names that the templates ask for, so that a template runs as it is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import loras
import torch
from comfyui_kolors.demo import expand_clip_vision, random_models
from comfyui_kolors.demo.random_models import TINY, Sizes
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))
#: The user's own, so no template has an address for them.
OWN = {("loras", "pytorch_lora_weights.safetensors"), ("diffusion_models", "Kolors-UNet-with-guidance.safetensors")}
#: A UNet as wide as the host's union ControlNets, which are 320 wide at any size of the rest.
WIDE, WIDE_UNET = Sizes(channels=(320, 320, 320), depth=(1, 1)), "kolors-wide-unet.safetensors"

# In the place of the package, which is no part of the tests: one face, the whole picture.
STUBS = {
    "onnxruntime.py": "def get_available_providers():\n    return ['CPUExecutionProvider']\n",
    "insightface/__init__.py": "",
    "insightface/app.py": """
import numpy


class FaceAnalysis:
    models = {"recognition": None}

    def __init__(self, name, root, providers):
        pass

    def prepare(self, ctx_id, det_size):
        pass

    def get(self, pixels):
        height, width, _ = pixels.shape
        embedding = numpy.random.RandomState(0).randn(512).astype(numpy.float32)
        return [{"bbox": numpy.float32([0, 0, width, height]), "embedding": embedding}]
""",
}


def requested() -> set[tuple[str, str]]:
    """(directory, name) of every model file that the templates offer to download."""
    nodes = [node for path in TEMPLATES for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]]
    models = [model for node in nodes for model in node.get("properties", {}).get("models", [])]
    return {(model["directory"], model["name"]) for model in models}


def write(base: Path) -> None:
    """Write them all under `base`, with the stand-in for insightface in `base / "stubs"`."""
    models = base / "models"
    random_models.write(models)
    for directory, name in requested() | OWN | {("diffusion_models", WIDE_UNET)}:
        path = models / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        maker(directory, name)(path)
    for name, code in STUBS.items():
        (base / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "stubs" / name).write_text(code, encoding="utf-8")
    weights = models / "insightface/models/antelopev2/glintr100.onnx"
    weights.parent.mkdir(parents=True)
    weights.touch()


def maker(directory: str, name: str) -> Callable[[Path], None]:
    """What writes the model of a folder under a name."""

    def adapter(path: Path) -> None:
        face = "faceid" in name
        make = random_models.random_face_adapter if face else random_models.random_ip_adapter
        save(make(TINY, expand_clip_vision.WIDTH), path)

    def lora(path: Path) -> None:
        pairs = loras.random_pairs(random_models.random_unet(TINY))
        save(loras.written(pairs, "unet.{}".format, ".lora_A.weight", ".lora_B.weight"), path)

    def same_as(file: str) -> Callable[[Path], None]:
        return lambda path: path.symlink_to(path.parents[1] / file)

    def unet(path: Path) -> None:
        wide, channels = name == WIDE_UNET, 9 if "Inpainting" in name else 4
        guidance = 256 if "guidance" in name else None
        made = random_models.random_unet(WIDE if wide else TINY, in_channels=channels, guidance_width=guidance)
        save(made.state_dict(), path)

    def control_net(path: Path) -> None:
        union = {"label_width": 2816, "union_types": 8} if "union" in name else {}
        save(random_models.random_control_net(WIDE if union else TINY, **union).state_dict(), path)

    return {
        "diffusion_models": unet,
        "text_encoders": same_as(random_models.TEXT_ENCODER_FILE),
        "vae": same_as(random_models.VAE_FILE),
        "controlnet": control_net,
        "ipadapter": adapter,
        "clip_vision": vision_encoder,
        "loras": lora,
    }[directory]


def vision_encoder(path: Path) -> None:
    """The one that fits the stock loader: 610 MB, most of it zeros, which take no room where a file may have holes."""
    tensors, header, end = expand_clip_vision.expand(load_file(expand_clip_vision.SMALL)), {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            if tensor.any():
                file.write(tensor.contiguous().numpy().tobytes())
            else:
                file.seek(2 * tensor.numel(), os.SEEK_CUR)
        file.truncate()


def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """As the name's ending asks."""
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
