"""The text encoder: storage, LoRAs, saved prompts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import folder_paths
import torch
from torch import Tensor

from . import files
from .pack import conditioning, load_conditioning, loaders, lora, save_conditioning
from .parts import clip, encode, load, prompts

STORAGES = ("default", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2", "int8", "int4")


def stored(file, *choices: str) -> dict[str, Tensor]:
    return encode(loaders.load_text_encoder(file(), *choices))


def long_prompt() -> Tensor:
    return conditioning.encode_prompt(clip(), "a red cat " * 200, 1024, {"width": 512})[0][0]


def saved_and_loaded(dtype: torch.dtype) -> dict[str, Tensor]:
    path = Path(folder_paths.get_output_directory()) / "prompt.safetensors"
    save_conditioning(path, prompts()[0], dtype)
    ((context, extra),) = load_conditioning(path)
    return {"context": context, "pooled": extra["pooled_output"]}


def lora_on(encoder_file, lora_file, storage: str, least_change: float = 0.0) -> dict[str, Tensor]:
    encoder = loaders.load_text_encoder(encoder_file(), storage)
    _, patched, _, _ = lora.apply_lora(load(), encoder, lora_file(), 1.0, 1.0)
    before, changed, after = encode(encoder), encode(patched), encode(encoder)
    assert all(torch.equal(before[key], after[key]) for key in before), "the LoRA left a trace"
    change = ((changed["context"] - before["context"]).norm() / before["context"].norm()).item()
    assert change >= least_change, f"the LoRA changed nothing ({change:.1e})"
    return changed


def saved_packed() -> dict[str, Tensor]:
    encoder = loaders.load_text_encoder(files.encoder(), "int8")
    encode(encoder)
    return {key: tensor for key, tensor in encoder.get_sd().items() if tensor.is_floating_point()}


CASES = {
    f"encoder {origin}{storage}": partial(stored, file, storage)
    for storage in STORAGES
    for origin, file in (("", files.encoder), ("of fp16 file ", files.encoder_fp16))
}
CASES |= {
    f"encoder gguf {storage}": partial(stored, files.encoder_gguf, storage)
    for storage in ("default", "int8", "int4", "fp16")
}
CASES |= {
    "encoder on cpu": lambda: stored(files.encoder, "default", "cpu"),
    "encoder empty prompt": lambda: encode(clip(), ""),
    "encoder long prompt": long_prompt,
    "conditioning save fp32": lambda: saved_and_loaded(torch.float32),
    "conditioning save fp16": lambda: saved_and_loaded(torch.float16),
}
CASES |= {
    f"encoder lora on {storage}": partial(lora_on, files.encoder, files.encoder_lora, storage)
    for storage in ("fp32", "int8", "int4", "fp8_e4m3fn")
}
CASES |= {
    f"encoder of middle size, lora on {storage}": partial(
        lora_on, files.middle_encoder, files.middle_encoder_lora, storage, least_change=0.01
    )
    for storage in ("fp32", "fp16", "int8", "int4")
}
CASES |= {"CLIPSave int8": saved_packed}
