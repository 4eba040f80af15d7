"""Which of Kolors' models a file holds, told from its header alone.

Most files of a folder are of other models, and a header takes several times longer to parse than to search: what has no
mark of Kolors' models among its bytes is not parsed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from .control_net_keys import is_usable
from .header import INDEX, SAFETENSORS, parse_shapes, read_head, read_header_text, read_index
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


def find_kinds(path: Path) -> frozenset[str]:
    """The kinds of Kolors' models in a file, or in the shards that an index names; none where it cannot be read.

    A torch file that is not zipped, as before torch 1.6, would have to be read whole and is passed over. Of GGUF files
    the first bytes name the model.
    """
    try:
        if fnmatch(path.name, INDEX):
            return _judge_index(path)
        head = read_head(path)
        if head.startswith(b"GGUF"):
            return frozenset({ENCODER} if b"chatglm" in head else ())
        return judge(_read_tensors(path, head))
    except Exception:  # of any type, for a damaged file is read as whatever it says
        return frozenset()


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


def _judge_index(path: Path) -> frozenset[str]:
    keys = read_index(path)
    shards = find_shards(path)
    if find_chatglm3(keys) is not None:
        return frozenset({ENCODER})
    if not _has_mark(json.dumps(list(keys)).encode()):
        return frozenset()
    return judge({key: tensor for shard in shards for key, tensor in _read_tensors(shard, read_head(shard)).items()})


def _read_tensors(path: Path, head: bytes) -> Mapping[str, Shaped]:
    """The tensors of a file without their values; none where it has no mark of Kolors' models."""
    if SAFETENSORS.match(head):
        text = read_header_text(path)
        return parse_shapes(text) if _has_mark(text) else {}
    if head.startswith(ZIP) and _has_mark(_read_pickle(path)):
        return read_torch(path)[0]
    return {}


def _read_pickle(path: Path) -> bytes:
    """The pickle that names the tensors of a zipped torch file, not unpickled."""
    with zipfile.ZipFile(path) as file:
        member = next(member for member in file.infolist() if member.filename.endswith("data.pkl"))
        return b"" if member.compress_type or member.file_size > LARGEST else file.read(member)


def _has_mark(text: bytes) -> bool:
    return any(mark in text for mark in MARKS)
