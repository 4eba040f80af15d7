"""The same tiny Kolors in the folders that other packages and the hub leave, and the names that the loaders list.

Sources: the download and the folders of ComfyUI-KwaiKolorsWrapper, ComfyUI-Kolors-MZ and ComfyUI-Easy-Use; the
cache of huggingface_hub; the files of Kwai-Kolors/Kolors and Kwai-Kolors/Kolors-diffusers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import TINY
from safetensors.torch import save_file
from torch import Tensor

INDEX = "pytorch_model.bin.index.json"
HALF, WHOLE = "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"
HUB_INDEX = "model.safetensors.index.fp16.json"
PIECES = 480


@dataclass(frozen=True)
class Parts:
    """The tensors of a tiny Kolors with a VAE of the published size, which the host knows by its sizes."""

    unet: dict[str, Tensor]
    encoder: dict[str, Tensor]
    vae: dict[str, Tensor]
    tokenizer: bytes


def make_parts() -> Parts:
    tokenizer = random_models.random_tokenizer()
    encoder = random_models.random_chatglm3(TINY, PIECES)
    unet = random_models.random_unet(TINY).state_dict()
    return Parts(unet, encoder, random_models.random_kl_vae(), tokenizer)


@dataclass
class Layout:
    """Where the parts are in `models`, and the names of the UNet, the text encoder and the folder in the loaders."""

    unet: str
    encoder: str
    folder: str = ""
    unlisted: tuple[str, ...] = field(default=())  # names of the encoder that are not in the list and load as well


def write_own(models: Path, parts: Parts) -> Layout:
    """The package's own folders."""
    put(parts.unet, models / "diffusion_models" / "unet.safetensors")
    put(parts.encoder | random_models.tokenizer_tensors(parts.tokenizer), models / "text_encoders/chatglm3.safetensors")
    put(parts.vae, models / "vae" / "vae.safetensors")
    return Layout("unet.safetensors", "chatglm3.safetensors")


def write_wrapper(models: Path, parts: Parts) -> Layout:
    """What KwaiKolorsWrapper downloads, with the VAE that its first versions fetched."""
    folder = models / "diffusers" / "Kolors"
    put(parts.unet, folder / "unet" / HALF)
    (folder / "unet" / "config.json").write_text("{}")
    put_shards(parts.encoder, folder / "text_encoder", "pytorch_model-{:05}-of-{:05}.bin", INDEX)
    (folder / "text_encoder" / "tokenizer.model").write_bytes(parts.tokenizer)
    put(parts.vae, folder / "vae" / HALF)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    first_shard = "diffusers/Kolors/text_encoder/pytorch_model-00001-of-00003.bin"
    names = f"diffusers/Kolors/unet/{HALF}", f"diffusers/Kolors/text_encoder/{INDEX}"
    return Layout(*names, "diffusers/Kolors", (first_shard,))


def write_wrapper_file(models: Path, parts: Parts) -> Layout:
    """The one file that KwaiKolorsWrapper's other loader reads, beside the downloaded UNet without a VAE."""
    put(parts.unet, models / "diffusers" / "Kolors" / "unet" / HALF)
    encoder = parts.encoder | random_models.tokenizer_tensors(parts.tokenizer)
    put(encoder, models / "LLM" / "checkpoints" / "chatglm3-fp16.safetensors")
    names = f"diffusers/Kolors/unet/{HALF}", "checkpoints/chatglm3-fp16.safetensors"
    return Layout(*names, unlisted=("chatglm3-fp16.safetensors",))


def write_mz(models: Path, parts: Parts) -> Layout:
    """The folders of Kolors-MZ and of Easy-Use, which are the same."""
    put(parts.unet, models / "unet" / "kolors.safetensors")
    put(parts.encoder | random_models.tokenizer_tensors(parts.tokenizer), models / "LLM" / "chatglm3-8bit.safetensors")
    return Layout("kolors.safetensors", "chatglm3-8bit.safetensors")


def write_hub(models: Path, parts: Parts, repository: str = "Kolors-diffusers", revision: str = "7e091c7") -> Layout:
    """A snapshot of the hub's cache: links into blobs, and the tokenizer in a folder of its own."""
    root = models / "diffusers" / f"models--Kwai-Kolors--{repository}"
    snapshot = root / "snapshots" / revision
    put(parts.unet, snapshot / "unet" / HALF)
    put(
        {key: tensor.float() for key, tensor in parts.unet.items()} | {"new": torch.zeros(1)}, snapshot / "unet" / WHOLE
    )
    put_shards(parts.encoder, snapshot / "text_encoder", "model.fp16-{:05}-of-{:05}.safetensors", HUB_INDEX)
    put(parts.vae, snapshot / "vae" / HALF)
    (snapshot / "tokenizer").mkdir()
    (snapshot / "tokenizer" / "tokenizer.model").write_bytes(parts.tokenizer)
    (snapshot / "model_index.json").write_text("{}")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(revision)
    move_into_blobs(root)
    name = f"diffusers/{root.name}/snapshots/{revision}"
    return Layout(f"{name}/unet/{HALF}", f"{name}/text_encoder/{HUB_INDEX}", name)


LAYOUTS = {
    "wrapper": write_wrapper,
    "wrapper's file": write_wrapper_file,
    "MZ, Easy-Use": write_mz,
    "hub": write_hub,
    "hub, other repository": partial(write_hub, repository="Kolors"),
}


def put(tensors: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)


def put_shards(tensors: dict[str, Tensor], folder: Path, name: str, index: str, count: int = 3) -> None:
    keys = list(tensors)
    weight_map = {}
    for number in range(count):
        shard = name.format(number + 1, count)
        part = keys[number::count]
        put({key: tensors[key] for key in part}, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def move_into_blobs(root: Path) -> None:
    """Turn the files of a snapshot into links, as huggingface_hub keeps them."""
    (root / "blobs").mkdir()
    for file in sorted(path for path in (root / "snapshots").rglob("*") if path.is_file()):
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.move(file, blob)
        file.symlink_to(os.path.relpath(blob, file.parent))
