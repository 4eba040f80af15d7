"""Which file of the catalog a file may be by its name, its size and its contents, and what it is good for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..files.header import read_head
from . import catalog
from .catalog import ModelFile
from .contents import Contents

LLM = "LLM"  # the earlier packages' folder of encoders; of a tokenizer there, only the encoder beside it knows
OURS = re.compile("kolors|chatglm", re.IGNORECASE)
SDXL = re.compile("sdxl|kolors", re.IGNORECASE)  # in the name or the folder of a VAE; nothing inside tells
POINTER = re.compile(rb"oid sha256:([0-9a-f]{64})")
UNCLEAR = ("vae?",)  # the role of a VAE that is SDXL's or SD1.5's
NEAR = 200  # a size that is rounded is right to this part
EVERYWHERE = ("checkpoints", "diffusers", LLM)  # where every loader of the pack looks, by contents
#: The kinds of folders in which a loader looks for a role, the loader, and what it is.
ROLES = {
    "unet": (("diffusion_models", *EVERYWHERE), "Load Kolors UNet", "a Kolors UNet"),
    "inpainting": (("diffusion_models", *EVERYWHERE), "Load Kolors UNet", "the UNet for inpainting"),
    "encoder": (("text_encoders", *EVERYWHERE), "Load Kolors ChatGLM3 Text Encoder", "ChatGLM3"),
    "vae": (("vae",), "Load VAE", "SDXL's VAE"),
    "ip-adapter-plus": (("ipadapter", *EVERYWHERE), "Load Kolors IP-Adapter", "Kolors' IP-Adapter"),
    "faceid-plus": (("ipadapter", *EVERYWHERE), "Load Kolors IP-Adapter", "Kolors' FaceID adapter"),
    "vision-encoder": (("clip_vision",), "Load CLIP Vision", "clip-vit-large-patch14-336"),
    "controlnet": (("controlnet", *EVERYWHERE), "Load Kolors ControlNet", "a Kolors ControlNet"),
    "lcm-lora": (("loras",), "Load Kolors LoRA", "a LoRA"),
    "hyper-lora": (("loras",), "Load Kolors LoRA", "a LoRA"),
    "controlnet-union": (("controlnet", *EVERYWHERE), "Load Kolors ControlNet", "the union ControlNet of SDXL"),
    "preview-decoder": (("vae_approx",), "ComfyUI", "TAESD's decoder for SDXL"),
    "antelopev2": (("insightface",), "Apply Kolors FaceID", "a face model"),
}
#: Roles that no tensor tells, and the words for what such a file is.
UNTOLD = {
    "lcm-lora": "a LoRA",
    "hyper-lora": "a LoRA",
    "controlnet-union": "a ControlNet",
    "preview-decoder": "a TAESD decoder",
}


def kind_of(name: str) -> str:
    """The key of ROLES of a name or role of the catalog: `controlnet` of `controlnet-canny`."""
    return name if name in ROLES else name.partition("-")[0]


def role_of(name: str) -> str:
    """What a file of the catalog serves as: every precision of the encoder is the encoder."""
    return "encoder" if kind_of(name) == "encoder" else name


def find_named(name: str, path: Path, shown: str) -> ModelFile | None:
    """The file of the catalog whose name `name` is; a published name says so only in a folder of Kolors'."""
    for file in catalog.FILES:
        published = Path(file.path)
        in_place = published.parent.name in ("", path.parent.name) and OURS.search(shown)
        if name == file.file or (name == published.name and in_place):
            return file
    return None


def find_pointed(path: Path) -> ModelFile | None:
    """The file of the catalog that a Git LFS pointer stands for."""
    match = POINTER.search(read_head(path)[:500])
    return next((file for file in catalog.FILES if match and file.sha256 == match[1].decode()), None)


def is_near(file: ModelFile, size: int, kinds: Iterable[str], contents: Contents) -> bool:
    """Whether a file of this size, in such folders, with such contents, may be one of the catalog."""
    if not has_size(file, size) or file.name == "preview-decoder":  # those of other models have this size too
        return False
    if file.exact:
        return fits(file, contents)
    if not contents.text:  # a torch file, which is not read
        return file.folder.partition("/")[0] in kinds and file.folder != "text_encoders"
    return role_of(file.name) in contents.roles and fits(file, contents)


def fits(file: ModelFile, contents: Contents) -> bool:
    """Whether contents are those of a file of the catalog, as far as they tell."""
    role = kind_of(file.name)
    return not contents.text or role in contents.roles or contents.text == UNTOLD.get(role)


def has_size(file: ModelFile, size: int) -> bool:
    return size == file.size if file.exact else abs(size - file.size) <= file.size / NEAR


def roles_of(shown: str, contents: Contents, file: ModelFile | None) -> tuple[str, ...]:
    """The roles of contents; what no tensor tells is told by the file of the catalog that it is, else by its name."""
    roles = []
    for role in contents.roles:
        if role == "controlnet":
            kinds = catalog.FEATURES["controlnet"]
            named = (name for name in kinds if name.removeprefix("controlnet-") in shown.lower())
            role = file.name if file else next(named, role)
        roles.append(role)
    unclear = roles == ["vae"] and not file and not SDXL.search(shown)
    return UNCLEAR if unclear else tuple(roles)


def name_to_get(file: ModelFile | None, roles: tuple[str, ...], contents: Contents) -> str:
    """What to get in the place of a file."""
    if file is not None:
        return file.name
    role = next(iter(roles), "")
    if role == "encoder":
        return {"int8": "encoder-8bit", "int4": "encoder-4bit"}.get(contents.storage, role)
    return role if role in catalog.BY_NAME or role == "controlnet" else ""
