"""A server with a tiny file for every input of converted graphs, and what a graph of other files gives there."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import vision_tower
from client import ENCODER, UNET, VAE, Client, Graph, KolorsGraph
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import TINY, random_control_net
from comfyui_kolors.devtools.folders import link_pack
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress
from comfyui_kolors.devtools.server import free_port, running_server
from image_prompts import nested, picture
from loras import random_pairs, written
from PIL import Image
from safetensors.torch import save_file
from test_other_packs import INSIGHTFACE, SIZES, halve

ROOT = Path(__file__).resolve().parents[2]
CHECKOUTS = {name: os.environ.get(name) for name in ("KOLORS_WRAPPER", "KOLORS_MZ", "KOLORS_IPADAPTER_PLUS")}
IPADAPTER_PLUS = CHECKOUTS["KOLORS_IPADAPTER_PLUS"]
CHECKPOINT, TOWER, PLUS, FACE = "old.safetensors", "old-tower.safetensors", "old-plus.safetensors", "old-face.bin"
CONTROL_NET, SDXL, LORA = "old-canny.safetensors", "old-sdxl.safetensors", "old-lora.safetensors"
INPAINTING = "old-inpainting.safetensors"
#: The tiny file for each input that names one, of the new nodes and of the old.
FILES = {
    "unet_name": UNET,
    "text_encoder_name": ENCODER,
    "chatglm3_checkpoint": ENCODER,
    "ckpt_name": CHECKPOINT,
    "vae_name": VAE,
    "clip_name": TOWER,
    "control_net_name": CONTROL_NET,
    "lora_name": LORA,
    "image": "old.png",
}
PROVIDERS = "def get_available_providers():\n    return ['CPUExecutionProvider']\n"


@contextmanager
def running(base: Path) -> Iterator[Client]:
    """A ComfyUI with everything that the graphs ask for, and an insightface that finds one face."""
    models = base / "models"
    sizes = SIZES if IPADAPTER_PLUS else TINY  # the sizes that IPAdapter_plus knows Kolors by
    random_models.write(models, sizes)
    for folder in ("checkpoints", "controlnet", "ipadapter", "loras", "clip_vision", "insightface/models/antelopev2"):
        (models / folder).mkdir(parents=True)
    for folder in ("custom_nodes", "input", "stubs/onnxruntime"):
        (base / folder).mkdir(parents=True)
    vision_tower.write_tower(models / "clip_vision" / TOWER)
    inpainting = random_models.random_unet(sizes, in_channels=9).state_dict()
    save_file(inpainting, models / "diffusion_models" / INPAINTING)
    save_file(random_control_net(sizes).state_dict(), models / "controlnet" / CONTROL_NET)
    save_file(random_control_net(sizes, label_width=2816).state_dict(), models / "controlnet" / SDXL)
    wide = {"width": 2048, "heads": 12} if IPADAPTER_PLUS else {}
    save_file(halve(random_models.random_ip_adapter(sizes, vision_tower.WIDTH, **wide)), models / "ipadapter" / PLUS)
    torch.save(nested(halve(random_models.random_face_adapter(sizes, vision_tower.WIDTH))), models / "ipadapter" / FACE)
    pairs = random_pairs(random_models.random_unet(sizes))
    save_file(written(pairs, "unet.{}".format, ".lora.down.weight", ".lora.up.weight"), models / "loras" / LORA)
    pixels = (picture(128, 128)[0] * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(base / "input" / "old.png")
    (models / "insightface/models/antelopev2/face.onnx").touch()
    for name, code in {
        **{f"insightface/{k}": v for k, v in INSIGHTFACE.items()},
        "onnxruntime/__init__.py": PROVIDERS,
    }.items():
        (base / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "stubs" / name).write_text(code)
    link_pack(base / "custom_nodes" / "comfyui-kolors", ROOT)
    if IPADAPTER_PLUS:
        target = Path(IPADAPTER_PLUS).resolve()
        (base / "custom_nodes" / "ComfyUI_IPAdapter_plus").symlink_to(target, target_is_directory=True)
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(base / "stubs"), prepend=os.pathsep)
        with running_server(setup, Progress(2), free_port()) as running:
            running_client = Client(running.url, base, running.log)
            save_checkpoint(running_client)
            yield running_client
    shutil.rmtree(models)  # pytest would keep a gigabyte


def save_checkpoint(server: Client) -> None:
    graph = KolorsGraph()
    parts = {"model": graph.model, "clip": graph.clip, "vae": graph.vae}
    graph.add("CheckpointSave", **parts, filename_prefix="checkpoints/old")
    server.run(graph)
    (file,) = (server.base / "output/checkpoints").glob("old*.safetensors")
    shutil.move(file, server.base / "models/checkpoints" / CHECKPOINT)


def with_tiny_files(prompt: dict) -> dict:
    """The prompt with the names of the tiny files."""
    prompt = json.loads(json.dumps(prompt))
    face = any(node["class_type"] in ("KolorsFaceIDApply", "MZ_IPAdapterFaceID") for node in prompt.values())
    inpainting = any(node["class_type"] == "VAEEncodeForInpaint" for node in prompt.values())
    for node in prompt.values():
        inputs = node["inputs"]
        for name, value in list(inputs.items()):
            if isinstance(value, list):
                continue
            if name in FILES:
                inputs[name] = FILES[name]
            elif name in ("ipadapter_name", "ipadapter_file"):
                inputs[name] = FACE if face else PLUS
        if node["class_type"] == "KolorsUNETLoader" and inpainting:
            inputs["unet_name"] = INPAINTING
        if "control_net_name" in inputs and "model" in inputs:
            inputs["control_net_name"] = SDXL
    return prompt


def run(server, prompt: dict) -> dict:
    """The outputs of a prompt; every latent and picture that it saved is finite and not of one value."""
    for node in prompt.values():
        if node["class_type"] == "SaveLatent":  # the server runs nothing twice, and would save nothing
            node["inputs"]["filename_prefix"] = f"latents/old-{next(server.serial)}"
    entry = server.run(Graph(prompt))
    for key, saved in entry["outputs"].items():
        if "latents" in saved:
            server.read_latent(entry, (key, 0))
    return entry


def latents_of(server, prompt: dict) -> list[torch.Tensor]:
    """The saved latents of a prompt, in the order of its nodes."""
    entry = run(server, prompt)
    return [server.read_latent(entry, (key, 0)) for key in prompt if prompt[key]["class_type"] == "SaveLatent"]
