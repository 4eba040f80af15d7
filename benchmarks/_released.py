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
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import _memory
import _sides  # noqa: F401 - sets the threads
import loaders
import torch
from _alone import run_alone, settle
from _report import table
from _rows import Row, compared
from comfyui_kolors.demo.random_models import random_tokenizer, tokenizer_tensors
from comfyui_kolors.kolors_core.files.safetensors import DTYPES
from comfyui_kolors.kolors_core.host.text_encoder.storage import Storage
from comfyui_kolors.kolors_core.host.text_encoder.tokenizer import NAME
from comfyui_kolors.kolors_core.networks.chatglm3 import ChatGLM3Config
from comfyui_kolors.kolors_core.networks.quantization import BITS, LARGEST, pack
from comfyui_kolors.kolors_core.networks.tokenizer import pad_left
from torch import Tensor

RELEASED = ChatGLM3Config()
TINY = ChatGLM3Config(vocab_size=512, hidden_size=256, num_layers=2, head_dim=32, ffn_size=512)
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
STORAGES = {name: Storage(torch.int8, torch.float16, bits) for name, bits in BITS.items()} | {
    name: Storage(dtype, dtype) for name, dtype in HALVES.items()
}
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


def values(tensors: dict[str, Tensor], bits: int | None) -> Iterator[Tensor]:
    """Values of each; scales are such that the deviation of packed matrices is the same."""
    size = min(POOL, max(tensor.numel() for tensor in tensors.values()))
    pools = {dtype: Pool(dtype, bits, size) for dtype in {tensor.dtype for tensor in tensors.values()}}
    for key, tensor in tensors.items():
        if bits and key.endswith("_scale"):
            yield torch.full(tensor.shape, 0.02 * 3**0.5 / LARGEST[bits])
        elif key.endswith("layernorm.weight"):
            yield torch.ones(tensor.shape, dtype=tensor.dtype)
        else:
            yield pools[tensor.dtype].take(*tensor.shape)


def write_encoder(path: Path, tensors: dict[str, Tensor], bits: int | None) -> Path:
    """A safetensors file of random values in the shapes and dtypes of meta tensors, with a tokenizer inside."""
    tokenizer = tokenizer_tensors(random_tokenizer())
    names, header, end = {dtype: name for name, dtype in DTYPES.items()}, {}, 0
    for key, tensor in (tensors | tokenizer).items():
        start, end = end, end + tensor.nbytes
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in chain(values(tensors, bits), tokenizer.values()):
            tensor.contiguous().view(torch.uint8).numpy().tofile(file)
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
            tokens = {NAME: [[(token, 1.0) for token in pad_left(ids, 256)]]}
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


def measure(
    script: str, config: ChatGLM3Config, parent: Path | None = None, names: Iterable[str] = STORAGES
) -> dict[str, dict[str, float]]:
    """`encode_in_this_process` of a file of each storage, which is written into `parent` and removed again."""
    report = {}
    for name in names:
        storage = STORAGES[name]
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            tensors = storage.expected(config)
            needed = sum(tensor.nbytes for tensor in tensors.values())
            if shutil.disk_usage(folder).free < 1.1 * needed:
                print(f"{name} left out: {folder} has no room for {needed / 1e9:.1f} GB", flush=True)
                continue
            path = write_encoder(Path(folder) / f"{name}.safetensors", tensors, storage.bits)
            report[name] = run_alone(script, "--prompts", path)
    return report


def page_rows(report: dict[str, dict[str, float]], halves: dict[str, dict[str, float]], layers: int) -> list[Row]:
    rows = []
    for name, case in report.items():
        rows += [
            Row(f"Loading, released size, {name}", case["load"]),
            Row(f"First prompt, released size, {name}", case["first"]),
            compared(
                f"Next prompt, released size, {name}", case["next"], case["floor"],
                beside="reading the weights once", ratio=case["ratio"],
            ),
            Row(f"Memory of loading and encoding, released size, {name}", case["peak"], "MiB"),
        ]  # fmt: skip
    return rows + [
        compared(f"Prompt, {layers} layers of the released size, {name}", costs["ours"], costs["diffusers"])
        for name, costs in halves.items()
    ]


def print_released(report: dict[str, dict[str, float]]) -> None:
    rows = [
        (storage, f"{case['file'] / 1e9:.1f}", f"{case['load']:.2f}", f"{case['first']:.2f}", f"{case['next']:.2f}",
         f"{case['floor']:.2f}", f"{case['ratio']:.1f}", f"{case['peak']:.0f}")
        for storage, case in report.items()
    ]  # fmt: skip
    print("\n" + table(HEADINGS, rows))
