"""ChatGLM3 in a GGUF file: its tensors under their published names, and its tokenizer from the vocabulary inside.

Read with the ``gguf`` package, which is optional. Sources: the GGUF specification; the tensor names that llama.cpp's
converter gives ChatGLM; ``sentencepiece_model.proto`` of google/sentencepiece for the tokenizer's field numbers.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BadFile, naming
from ..networks.tokenizer import SPECIAL_TOKENS, TOKENIZER_KEY
from .torch_pickle import check_size
from .weights import Weights

ARCHITECTURE = "chatglm"
VOCABULARY = "llama"  # GGUF's word for a SentencePiece vocabulary; ChatGLM4 has another kind
NAMES = {
    "token_embd": "embedding.word_embeddings",
    "attn_norm": "encoder.layers.{}.input_layernorm",
    "attn_qkv": "encoder.layers.{}.self_attention.query_key_value",
    "attn_output": "encoder.layers.{}.self_attention.dense",
    "ffn_norm": "encoder.layers.{}.post_attention_layernorm",
    "ffn_up": "encoder.layers.{}.mlp.dense_h_to_4h",
    "ffn_down": "encoder.layers.{}.mlp.dense_4h_to_h",
}


def is_gguf(path: str | Path) -> bool:
    """Whether a file begins as a GGUF file does; what is no file, such as a pipe, is not opened."""
    if not Path(path).is_file():
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def open_gguf(path: str | Path) -> Weights:
    """The ChatGLM3 encoder of a GGUF file, and under ``spiece_model`` its tokenizer.

    The tensors are shapes on the meta device, in float16; `Weights.read` unpacks rows of one to float32.
    Raises KolorsError where the ``gguf`` package is missing, or the file is damaged or holds another model.
    """
    path = Path(path)
    with naming(path):
        return _open(path)


def _open(path: Path) -> Weights:
    try:
        gguf = import_module("gguf")  # by its name, for where it is missing type checkers take this file for it
    except ImportError as error:
        raise BadFile(
            "is a GGUF file, which needs the package gguf. Run 'python -m pip install gguf' with "
            "ComfyUI's Python, or use a .safetensors file of the encoder."
        ) from error
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # of any type, for a damaged header is read as whatever it says
        raise BadFile(f"is a damaged GGUF file. Download it again. ({error!r})") from error
    architecture, vocabulary = fields.get("general.architecture"), fields.get("tokenizer.ggml.model")
    if architecture != ARCHITECTURE or vocabulary != VOCABULARY:
        raise BadFile(
            f"is a GGUF file of the model family {architecture}, with a vocabulary of the kind "
            f"{vocabulary}. Expected {ARCHITECTURE} with {VOCABULARY}, which chatglm3-6b has. Choose that model's file."
        )
    check_size(sum(int(source.n_bytes) for source in reader.tensors), path)
    sources = {key: source for source in reader.tensors if (key := published_name(source.name))}
    tensors = {
        key: torch.empty([int(size) for size in source.shape[::-1]], dtype=torch.float16, device="meta")
        for key, source in sources.items()
    }
    config, tokenizer = _read_fields(fields)
    tensors[TOKENIZER_KEY] = torch.frombuffer(bytearray(tokenizer), dtype=torch.uint8)

    def read_rows(key: str, rows: slice) -> Tensor:
        """A row is a whole number of GGUF's blocks."""
        source = sources[key]
        return torch.as_tensor(gguf.quants.dequantize(source.data[rows], source.tensor_type))

    return Weights(tensors, {"config": json.dumps(config)}, read_rows)


def _read_fields(fields: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The configuration under ChatGLM's names, and the tokenizer. Raises BadFile where a field is missing or wrong."""
    try:
        config = {
            "kv_channels": fields["chatglm.embedding_length"] // fields["chatglm.attention.head_count"],
            "layernorm_epsilon": fields["chatglm.attention.layer_norm_rms_epsilon"],
        }
        return config, build_tokenizer(
            *(fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
        )
    except KeyError as error:
        raise BadFile(f"is an incomplete GGUF file: {error.args[0]} is missing. Download it again.") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError, struct.error) as error:
        raise BadFile(
            f"is a damaged GGUF file: its sizes or its vocabulary are impossible ({error}). Download it again."
        ) from error


def published_name(name: str) -> str | None:
    """``blk.3.ffn_up.weight`` as ChatGLM names it; None for a tensor that Kolors does not run."""
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if match is None or match[2] not in NAMES:
        return None
    return f"{NAMES[match[2]].format(match[1])}.{match[3]}"


def build_tokenizer(tokens: list[str], scores: list[float], types: list[int]) -> bytes:
    """A SentencePiece model (BPE with byte fallback) of a vocabulary, without the special tokens behind it."""
    count = tokens.index(SPECIAL_TOKENS[0]) if SPECIAL_TOKENS[0] in tokens else len(tokens)
    pieces = b"".join(
        _field(1, _field(1, token.encode()) + _float(2, score) + _integer(3, kind))
        for token, score, kind in zip(tokens[:count], scores, types)
    )
    trainer = _integer(3, 2) + _integer(4, count) + _integer(35, 1)  # BPE, size, byte fallback
    normalizer = _field(1, b"identity") + _integer(3, 1) + _integer(4, 0) + _integer(5, 1)  # spaces kept, one in front
    return pieces + _field(2, trainer) + _field(3, normalizer)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _float(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content
