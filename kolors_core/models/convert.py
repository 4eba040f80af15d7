"""The shards of ChatGLM3 in fp16 to one int8 or int4 file with the tokenizer inside, one shard at a time.

What is done lies beside the place of the file: the values as ``NAME.part``, and what they are as ``NAME.part.json``,
which is written anew after every shard. A run that was killed goes on after the last shard that is in there.
"""

from __future__ import annotations

import json
import os
import re
import struct
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..errors import BadFile, naming
from ..files.header import LENGTH, METADATA
from ..files.identify import extract_chatglm3
from ..files.weights import open_file
from ..networks.quantization import quantize_parts
from ..networks.tokenizer import TOKENIZER_KEY
from .download import PART

STATE = f"{PART}.json"
ROOM = 1 << 18  # bytes kept free for the header, which is known only at the end; the released model needs 40 KB
DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.int8: "I8"}
OURS = re.compile(
    r"(|.*\.)(embedding\.word_embeddings|encoder\.(layers|final_layernorm)|rotary_pos_emb|output_layer)\."
)


class Conversion:
    """A file on its way to `target`; made again where an earlier run left something there, it goes on with it.

    bits: 8 or 4. done: names of the shards that are in it.
    """

    def __init__(self, target: Path, bits: int):
        self.target, self.bits = target, bits
        self.part, self.state = (target.with_name(target.name + ending) for ending in (PART, STATE))
        self.done: list[str] = []
        self.entries: dict[str, dict[str, Any]] = {}
        self.end = 0  # of the values, in bytes
        self._read_state()

    def _read_state(self) -> None:
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
            self.done, self.entries, self.end = state["done"], state["entries"], int(state["end"])
            whole = state["bits"] == self.bits and self.part.stat().st_size >= LENGTH + ROOM + self.end
        except (OSError, ValueError, TypeError, KeyError):
            whole = False
        if not whole:
            self.done, self.entries, self.end = [], {}, 0

    def add(self, shard: Path, name: str) -> None:
        """Convert the tensors of one shard, which counts as done under `name`.

        Raises KolorsError where it is damaged, or no part of ChatGLM3.
        """
        weights = open_file(shard)
        with naming(shard):
            prefix = next((match[1] for match in map(OURS.match, weights.tensors) if match), None)
            if prefix is None:
                raise BadFile("has nothing of ChatGLM3. Expected one of the shards of its text encoder.")
        with self.part.open("r+b" if self.part.exists() else "w+b") as file:
            file.truncate(LENGTH + ROOM + self.end)
            file.seek(0, os.SEEK_END)
            for key, tensor in extract_chatglm3(weights.tensors, prefix).items():
                if key.startswith("encoder.layers.") and tensor.ndim == 2:
                    read = partial(weights.read, prefix + key)
                    packed, scale = quantize_parts(tensor.shape, self.bits, read)
                    self._append(file, key, packed)
                    self._append(file, f"{key}_scale", scale)
                else:
                    self._append(file, key, weights.read(prefix + key))
            _to_disk(file)
        self.done.append(name)
        self._write_state()

    def _append(self, file: IO[bytes], key: str, tensor: Tensor) -> None:
        values = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        self._append_bytes(file, key, DTYPES[tensor.dtype], list(tensor.shape), values)

    def _append_bytes(self, file: IO[bytes], key: str, dtype: str, shape: list[int], values: bytes) -> None:
        file.write(values)
        offsets = [self.end, self.end + len(values)]
        self.entries[key] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        self.end = offsets[1]

    def _write_state(self) -> None:
        state = {"bits": self.bits, "done": self.done, "entries": self.entries, "end": self.end}
        fresh = self.state.with_name(self.state.name + ".new")
        fresh.write_text(json.dumps(state), encoding="utf-8")
        fresh.replace(self.state)

    def finish(self, tokenizer: bytes) -> None:
        """Put the tokenizer into the file and the file into its place."""
        with self.part.open("r+b") as file:
            file.truncate(LENGTH + ROOM + self.end)
            file.seek(0, os.SEEK_END)
            self._append_bytes(file, TOKENIZER_KEY, "U8", [len(tokenizer)], tokenizer)
            header = json.dumps({METADATA: {"format": "pt"}, **self.entries}).encode().ljust(ROOM)
            with naming(self.target):
                if len(header) > ROOM:
                    raise BadFile(f"needs a header of {len(header):,} bytes, more than {ROOM:,}. Report this.")
            file.seek(0)
            file.write(struct.pack("<Q", ROOM) + header)
            _to_disk(file)
        self.part.replace(self.target)
        self.state.unlink(missing_ok=True)


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
