"""Which of Kolors' models a file holds, told from its header alone.

Most files of a folder are of other models, and a header takes several times longer to parse than to search: what has no
mark of Kolors' models among its bytes is not parsed.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from .control_net_keys import is_usable
from .header import (
    HEAD_BYTES,
    INDEX,
    LENGTH,
    READ_ONLY,
    SAFETENSORS,
    is_whole,
    parse_shapes,
    read_index,
    read_start,
)
from .identify import Shaped, find_chatglm3, find_kolors_unet
from .ip_adapter_keys import describe_foreign, extract_ip_adapter
from .torch_pickle import ZIP, read_torch
from .weights import find_shards

UNET, ENCODER, CONTROL_NET = "diffusion_models", "text_encoders", "controlnet"  # as the host calls their folders
IP_ADAPTER, CHECKPOINT = "ipadapter", "checkpoints"
#: What the keys of these models have in them, and those of few others; the longer, the faster it is searched for.
MARKS = (
    b"encoder_hid_proj.weight", b"query_key_value.weight", b"to_k_ip.weight",
    b"controlnet_cond_embedding.conv_in.weight", b"input_hint_block.0.weight",
)  # fmt: skip
LARGEST = 1 << 26  # bytes of a pickle that names tensors


class Content(NamedTuple):
    """What a file held when it was read.

    kinds: those of Kolors' models in it; None where it cannot be told, or not yet, as of a file that is being written.
    state: what it was like then; empty where it cannot be opened.
    """

    kinds: frozenset[str] | None
    state: tuple[int, ...] = ()


def describe_state(status: os.stat_result) -> tuple[int, int]:
    """What changes with a file: its time of change in ns, and its size in bytes."""
    return status.st_mtime_ns, status.st_size


def find_kinds(path: str | Path) -> Content:
    """The kinds of Kolors' models in a file, or in the shards that an index names.

    A torch file that is not zipped, as before torch 1.6, would have to be read whole and is passed over. Of GGUF files
    the first bytes name the model.
    """
    state: tuple[int, ...] = ()
    try:
        file = os.open(path, READ_ONLY)
        try:
            state = describe_state(os.fstat(file))
            start = read_start(file)
        finally:
            os.close(file)
        return Content(_judge_file(os.fspath(path), start), state)
    except Exception:  # of any type, for a damaged file is read as whatever it says
        return Content(None, state)


def _judge_file(path: str, start: bytes) -> frozenset[str] | None:
    """The kinds by the bytes that a file begins with, and by more of it where those are not enough."""
    if path.endswith(".json"):
        return _judge_index(Path(path)) if fnmatch(os.path.basename(path), INDEX) else None
    if start.startswith(b"GGUF"):
        head = start[:HEAD_BYTES]
        return frozenset({ENCODER}) if b"chatglm" in head else frozenset() if len(head) == HEAD_BYTES else None
    return _judge(_read_tensors(path, start))


def _judge(tensors: Mapping[str, Shaped] | None) -> frozenset[str] | None:
    return judge(tensors) if tensors else None if tensors is None else frozenset()


def judge(tensors: Mapping[str, Shaped]) -> frozenset[str]:
    """The kinds of Kolors' models among tensors."""
    prefix, adapter = find_kolors_unet(tensors), extract_ip_adapter(tensors)
    found = {
        UNET: prefix is not None,
        CHECKPOINT: bool(prefix),
        ENCODER: find_chatglm3(tensors) is not None,
        CONTROL_NET: is_usable(tensors),
        IP_ADAPTER: bool(adapter) and describe_foreign(adapter) is None,
    }
    return frozenset(kind for kind, is_there in found.items() if is_there)


def _judge_index(path: Path) -> frozenset[str] | None:
    keys = read_index(path)
    shards = find_shards(path)
    if find_chatglm3(keys) is not None:
        return frozenset({ENCODER})
    if not _has_mark(json.dumps(list(keys)).encode()):
        return frozenset() if keys else None
    tensors: dict[str, Shaped] = {}
    for shard in shards:
        with shard.open("rb", buffering=0) as file:
            some = _read_tensors(str(shard), read_start(file.fileno()))
        if some is None:
            return None
        tensors |= some
    return _judge(tensors)


def _read_tensors(path: str, start: bytes) -> Mapping[str, Shaped] | None:
    """The tensors of a file without their values; empty where it has no mark of Kolors' models.

    None where the file is of no kind that has them, or is not whole.
    """
    if SAFETENSORS.match(start):
        if not is_whole(start):
            return None
        return parse_shapes(start[LENGTH:]) if _has_mark(start) else {}
    if start.startswith(ZIP):
        return read_torch(Path(path))[0] if _has_mark(_read_pickle(path)) else {}
    return None


def _read_pickle(path: str) -> bytes:
    """The pickle that names the tensors of a zipped torch file, not unpickled."""
    with zipfile.ZipFile(path) as file:
        member = next(member for member in file.infolist() if member.filename.endswith("data.pkl"))
        return b"" if member.compress_type or member.file_size > LARGEST else file.read(member)


def _has_mark(text: bytes) -> bool:
    return any(map(text.__contains__, MARKS))
