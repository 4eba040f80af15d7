"""The text encoder at its released size, with random weights: what a user of `device` cpu waits for.

One file per storage, written tensor by tensor, so that it takes no memory; each is loaded and asked for prompts in a
process of its own.
"""

from __future__ import annotations

import json
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import _memory
import _sides  # noqa: F401 - sets the threads
import loaders
import torch
from _alone import run_alone, settle
from _report import table
from comfyui_kolors.demo.random_models import random_tokenizer
from comfyui_kolors.kolors_core.networks.chatglm3 import ChatGLM3Config
from comfyui_kolors.kolors_core.networks.quantization import BITS, LARGEST, pack
from comfyui_kolors.kolors_core.networks.tokenizer import TOKENIZER_KEY, pad_left
from torch import Tensor

RELEASED = ChatGLM3Config()
TINY = ChatGLM3Config(vocab_size=512, hidden_size=256, num_layers=2, head_dim=32, ffn_size=512)
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
STORAGES = (*BITS, *DTYPES)
NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.int8: "I8", torch.uint8: "U8"}
PROMPTS, TOKENS = 5, 20
HEADINGS = ("Stored in", "file, GB", "load, s", "first prompt, s", "next prompt, s", "weights read once, s", "ratio",
            "peak, MiB")  # fmt: skip
POOL = 1 << 27  # random values, of which each tensor takes a part that begins elsewhere


class Pool:
    """Random tensors of one dtype, drawn once: floats of a deviation of 0.02, or integers packed in `bits`."""

    def __init__(self, dtype: torch.dtype, bits: int | None, size: int):
        generator = torch.Generator().manual_seed(0)
        if bits and dtype == torch.int8:
            shape, largest = (1, size * 8 // bits), LARGEST[bits]
            integers = torch.randint(-largest, largest + 1, shape, dtype=torch.int8, generator=generator)
            self.values = pack(integers, bits)[0]
        else:
            self.values = torch.empty(size, dtype=dtype).normal_(std=0.02, generator=generator)
        self.start = 0

    def take(self, *shape: int) -> Tensor:
        count = torch.Size(shape).numel()
        if count > len(self.values):
            return self.values.repeat(-(-count // len(self.values)))[:count].view(shape)
        self.start = (self.start + 1_000_003) % (len(self.values) - count + 1)
        return self.values[self.start : self.start + count].view(shape)


def layout(config: ChatGLM3Config, storage: str) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of the tensors of a file, by their published names."""
    half, bits = DTYPES.get(storage, torch.float16), BITS.get(storage)
    result: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "embedding.word_embeddings.weight": (half, (config.vocab_size, config.hidden_size)),
        "rotary_pos_emb.inv_freq": (half, (config.rotary_dim // 2,)),
    }
    qkv = config.hidden_size + 2 * config.num_groups * config.head_dim
    matrices = {
        "self_attention.query_key_value": (qkv, config.hidden_size),
        "self_attention.dense": (config.hidden_size, config.hidden_size),
        "mlp.dense_h_to_4h": (2 * config.ffn_size, config.hidden_size),
        "mlp.dense_4h_to_h": (config.hidden_size, config.ffn_size),
    }
    for layer in range(config.num_layers):
        prefix = f"encoder.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            result[f"{prefix}.{norm}.weight"] = (half, (config.hidden_size,))
        result[f"{prefix}.self_attention.query_key_value.bias"] = (half, (qkv,))
        for name, (rows, columns) in matrices.items():
            shape = (rows, columns * bits // 8) if bits else (rows, columns)
            result[f"{prefix}.{name}.weight"] = (torch.int8 if bits else half, shape)
            if bits:
                result[f"{prefix}.{name}.weight_scale"] = (torch.float32, (rows,))
    return result


def values(tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]], storage: str) -> Iterator[Tensor]:
    """Values of each; scales are such that the deviation of packed matrices is the same."""
    bits = BITS.get(storage)
    size = min(POOL, max(torch.Size(shape).numel() for _, shape in tensors.values()))
    pools = {dtype: Pool(dtype, bits, size) for dtype in {dtype for dtype, _ in tensors.values()}}
    for key, (dtype, shape) in tensors.items():
        if key.endswith("_scale"):
            yield torch.full(shape, 0.02 * 3**0.5 / LARGEST[bits])
        elif key.endswith("layernorm.weight"):
            yield torch.ones(shape, dtype=dtype)
        else:
            yield pools[dtype].take(*shape)


def write_encoder(path: Path, storage: str, config: ChatGLM3Config = RELEASED) -> Path:
    """A safetensors file of random weights in `storage`, with a tokenizer inside."""
    tensors = layout(config, storage)
    tokenizer = torch.frombuffer(bytearray(random_tokenizer()), dtype=torch.uint8)
    header, end = {}, 0
    for key, (dtype, shape) in (tensors | {TOKENIZER_KEY: (torch.uint8, tuple(tokenizer.shape))}).items():
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[key] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in values(tensors, storage):
            tensor.contiguous().view(torch.uint8).numpy().tofile(file)
        tokenizer.numpy().tofile(file)
    return path


def encode_in_this_process(path: str) -> dict[str, float]:
    """Load a file, encode prompts that are all new, and read the weights once after each; seconds, and MiB at most."""
    settle()
    before = _memory.start()
    started = time.perf_counter()
    clip = loaders.load_text_encoder(path)
    load = time.perf_counter() - started
    layers = clip.cond_stage_model.transformer.encoder
    matrices = [weight.data.view(torch.int64) for weight in layers.parameters() if weight.ndim == 2]
    generator = torch.Generator().manual_seed(0)
    prompts: list[float] = []
    floors: list[float] = []
    with torch.inference_mode():
        for _ in range(1 + PROMPTS):
            ids = [3, 4, *torch.randint(10, 460, (TOKENS,), generator=generator).tolist()]
            tokens = {"chatglm3": [[(token, 1.0) for token in pad_left(ids, 256)]]}
            started = time.perf_counter()
            clip.encode_from_tokens(tokens, return_pooled=True)
            read = time.perf_counter()
            for matrix in matrices:
                matrix.sum()
            prompts.append(read - started)
            floors.append(time.perf_counter() - read)
    first, *others = prompts
    return {
        "file": Path(path).stat().st_size,
        "load": load,
        "first": first,
        "next": statistics.median(others),
        "floor": statistics.median(floors[1:]),
        "ratio": statistics.median(prompt / floor for prompt, floor in zip(others, floors[1:])),
        "peak": _memory.peak() - before,
    }


def measure(script: str, config: ChatGLM3Config, parent: Path | None = None) -> dict[str, dict[str, float]]:
    """`encode_in_this_process` of a file of each storage, which is written into `parent` and removed again."""
    report = {}
    for storage in STORAGES:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            needed = sum(
                torch.Size(shape).numel() * dtype.itemsize for dtype, shape in layout(config, storage).values()
            )
            if shutil.disk_usage(folder).free < 1.1 * needed:
                print(f"{storage} left out: {folder} has no room for {needed / 1e9:.1f} GB", flush=True)
                continue
            path = write_encoder(Path(folder) / f"{storage}.safetensors", storage, config)
            report[storage] = run_alone(script, "--prompts", path)
    return report


def print_released(report: dict[str, dict[str, float]]) -> None:
    rows = [
        (storage, f"{case['file'] / 1e9:.1f}", f"{case['load']:.2f}", f"{case['first']:.2f}", f"{case['next']:.2f}",
         f"{case['floor']:.2f}", f"{case['ratio']:.1f}", f"{case['peak']:.0f}")
        for storage, case in report.items()
    ]  # fmt: skip
    print("\n" + table(HEADINGS, rows))
