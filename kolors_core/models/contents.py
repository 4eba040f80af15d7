"""What a model file is to Kolors, told by what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..files.header import INDEX, SAFETENSORS, Shape, read_head, read_header, read_index, shapes_of
from ..files.identify import describe, find_chatglm3, find_kolors_unet
from ..keys import find_prefix
from .verify import DAMAGED, HEADER

TOKENIZER_KEY = "spiece_model"  # of a tokenizer among the tensors
HIDDEN = 4096  # width of ChatGLM3; the miniature is smaller
CHANNELS = {4: "unet", 9: "inpainting"}  # a UNet's input
STORAGES = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F8_E4M3": "fp8", "F8_E5M2": "fp8"}
VISION_STATES, VISION_WIDTH = (336 // 14) ** 2 + 1, 1024  # of clip-vit-large-patch14-336
TOKEN_WIDTH = 2048  # what a UNet of SDXL's or Kolors' size reads


@dataclass(frozen=True)
class Contents:
    """What is in a file.

    roles: what Kolors can use it as, by the names of the catalog; of a ControlNet and a VAE, "controlnet" and "vae",
    for no tensor says which. storage: of its matrices. tokenizer: whether one is inside. text: what it is, in words.
    """

    roles: tuple[str, ...] = ()
    storage: str = ""
    tokenizer: bool = False
    text: str = ""


def look_into(path: Path) -> Contents:
    """What is in a file; nothing where it is of a kind that tells nothing, or damaged."""
    head = read_head(path)
    if path.suffix == ".json":
        is_encoder = path.match(INDEX) and find_chatglm3(read_index(path)) is not None
        return Contents(("encoder",)) if is_encoder else Contents()
    if head.startswith(b"GGUF"):
        return Contents(("encoder",), "GGUF", tokenizer=True) if b"chatglm" in head else Contents()
    if not SAFETENSORS.match(head):
        return Contents()
    try:
        return of_shapes(shapes_of(read_header(path, HEADER)[0]))
    except (*DAMAGED, OSError):
        return Contents()


def of_shapes(shapes: Mapping[str, Shape]) -> Contents:
    """What tensors are. Raises one of DAMAGED where they are no tensors of a model."""
    unet, encoder = find_kolors_unet(shapes), find_chatglm3(shapes)
    roles, storage = list[str](), ""
    if unet is not None and shapes[unet + "encoder_hid_proj.weight"].shape[-1] == HIDDEN:
        first = shapes.get(unet + "conv_in.weight") or shapes.get(unet + "input_blocks.0.0.weight")
        role = CHANNELS.get(first.shape[1] if first else 0)
        roles += [role] if role else []
        storage = STORAGES.get(shapes[unet + "encoder_hid_proj.weight"].dtype, "")
    if encoder is not None and (stored := _storage_of_encoder(shapes, encoder)):
        roles.append("encoder")
        storage = storage or stored
    text = describe(shapes)
    if text == "a VAE" or unet is not None:
        decoder = find_prefix(shapes, "decoder.conv_in.weight")
        channels = None if decoder is None else shapes[decoder + "decoder.conv_in.weight"].shape[1]
        if channels == 4:
            roles.append("vae")
        elif unet is None:
            text = f"{text} of {channels} channels"
    if not roles:
        roles += _other_roles(shapes, text)
    if not roles and (unet is not None or encoder is not None):
        text += " of another kind"
    return Contents(tuple(roles), storage, any(key.endswith(TOKENIZER_KEY) for key in shapes), text)


def _storage_of_encoder(shapes: Mapping[str, Shape], prefix: str) -> str | None:
    """fp16, int8, int4 and the like; None where it has another width than ChatGLM3."""
    matrices = (key for key in shapes if key.endswith("self_attention.query_key_value.weight"))
    key = next(key for key in matrices if key.startswith(prefix))
    norm = shapes.get(f"{prefix}encoder.layers.{key.removeprefix(prefix).split('.')[2]}.input_layernorm.weight")
    width = shapes[key].shape[-1]
    if f"{key}_scale" in shapes:
        hidden = norm.shape[0] if norm else HIDDEN
        return {hidden: "int8", hidden // 2: "int4"}.get(width) if hidden == HIDDEN else None
    return STORAGES.get(shapes[key].dtype, shapes[key].dtype) if width == HIDDEN else None


def _other_roles(shapes: Mapping[str, Shape], text: str) -> list[str]:
    if text == "a Kolors ControlNet":
        projection = shapes[f"{find_prefix(shapes, 'encoder_hid_proj.weight')}encoder_hid_proj.weight"]
        return ["controlnet"] if projection.shape[-1] == HIDDEN else []
    if text == "an IP-Adapter":
        return [role] if (role := _adapter(shapes)) else []
    if text == "a CLIP vision model":
        positions = find_prefix(shapes, "embeddings.position_embedding.weight")
        found = shapes[f"{positions}embeddings.position_embedding.weight"].shape if positions is not None else ()
        return ["vision-encoder"] if found == (VISION_STATES, VISION_WIDTH) else []
    return []


def _adapter(shapes: Mapping[str, Shape]) -> str | None:
    """Kolors' adapter for images or for faces: its vision encoder is ViT-L, while that of SDXL's adapters is ViT-H."""
    projection = find_prefix(shapes, "to_k_ip.weight")
    resampler = find_prefix(shapes, "proj_in.weight")
    if projection is None or resampler is None:
        return None
    widths = shapes[f"{projection}to_k_ip.weight"].shape[-1], shapes[f"{resampler}proj_in.weight"].shape[-1]
    if widths != (TOKEN_WIDTH, VISION_WIDTH):
        return None
    return "faceid-plus" if "image_proj.proj.0.weight" in shapes else "ip-adapter-plus"
