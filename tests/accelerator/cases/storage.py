"""The UNet's storage, LoRAs on it, merging, saving, inpainting."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import comfy.sd
import comfy_extras.nodes_model_merging
import folder_paths
import torch
from safetensors.torch import load_file
from torch import Tensor

import nodes

from . import files
from .pack import loaders
from .parts import PROMPT, SIDE, clip, draw, load, load_vae, picture, prompt, prompts, with_lora

MIDDLE = "model.diffusion_model.middle_block"


def lora_leaves_no_trace() -> dict[str, Tensor]:
    model = load()
    before, changed, after = draw(model), draw(with_lora(model)), draw(model)
    assert torch.equal(before, after), "the LoRA left a trace"
    return {"plain": before, "lora": changed}


def merged() -> Tensor:
    merge = comfy_extras.nodes_model_merging.ModelMergeSimple().merge
    return draw(merge(load(), load(files.other_unet), 0.3)[0])


def saved_and_loaded() -> dict[str, Tensor]:
    """A checkpoint with a LoRA in it; what it was saved from draws again.

    With matrices of more than 16 KB: under dynamic VRAM the host saves a patch twice in smaller layers of any model.
    """
    path = Path(folder_paths.get_output_directory()) / "checkpoint.safetensors"
    model = with_lora(load(files.wider_unet), file=files.wider_unet_lora)
    comfy.sd.save_checkpoint(str(path), model, clip(), load_vae())
    before = draw(model)
    weights = load_file(path)
    loaded, encoder, _ = loaders.load_checkpoint(str(path))
    after = draw(loaded, cond=(prompt(PROMPT, encoder), prompt("", encoder)))
    path.unlink()
    return {
        "before": before,
        "after": after,
        "weight": weights[f"{MIDDLE}.1.transformer_blocks.0.attn1.to_q.weight"],
        "conv": weights[f"{MIDDLE}.0.in_layers.2.weight"],
    }


def inpainted() -> Tensor:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 30:90, 40:100] = 1
    encode = nodes.InpaintModelConditioning().encode
    *cond, latent = encode(*prompts(), picture(3, SIDE), load_vae(), mask, noise_mask=True)
    return draw(load(files.unet_inpainting), latent=latent, cond=cond)


CASES = {
    f"unet {origin}{dtype}": partial(lambda file, dtype: draw(load(file, dtype)), file, dtype)
    for dtype in loaders.WEIGHT_DTYPES
    for origin, file in (("", files.unet), ("of fp16 file ", files.unet_fp16))
}
CASES |= {
    "unet lora": lambda: draw(with_lora(load())),
    "unet lora on fp8": lambda: draw(with_lora(load(dtype="fp8_e4m3fn"))),
    "unet lora leaves no trace": lora_leaves_no_trace,
    "merge": merged,
    "CheckpointSave and load": saved_and_loaded,
    "decoded": lambda: load_vae().decode(draw(load())),
    "inpainting 9 channels": inpainted,
}
