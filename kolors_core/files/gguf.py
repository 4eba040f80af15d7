"""ChatGLM3 in a GGUF file: its tensors under their published names, and its tokenizer from the vocabulary inside.

Read with the ``gguf`` package, which is optional. Sources: the GGUF specification; the tensor names that llama.cpp's
converter gives ChatGLM; ``sentencepiece_model.proto`` of google/sentencepiece for the tokenizer's field numbers.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import torch
from torch import Tensor

from ..errors import KolorsError
from ..networks.tokenizer import SPECIAL_TOKENS
from . import Weights, check_size, locate

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
TOKENIZER_KEY = "spiece_model"


def is_gguf(path: str | Path) -> bool:
    """Whether a file begins as a GGUF file does; what is no file, such as a pipe, is not opened."""
    if not Path(path).is_file():
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


class GGUFWeights(Weights):
    """Tensors of a GGUF file: shapes on the meta device, in float16, and values by `read` alone."""

    def __init__(self, tensors: dict[str, Tensor], metadata: dict[str, str], sources: dict):
        super().__init__(tensors, metadata, sources)

    def read(self, key: str, rows: slice = slice(None)) -> Tensor:
        """Rows of one tensor, unpacked to float32; a row is a whole number of GGUF's blocks."""
        import gguf

        source = self.files[key]
        return torch.from_numpy(gguf.quants.dequantize(source.data[rows], source.tensor_type))


def open_gguf(path: str | Path) -> GGUFWeights:
    """The ChatGLM3 encoder of a GGUF file, and under ``spiece_model`` its tokenizer.

    Raises KolorsError where the ``gguf`` package is missing, or the file is damaged or holds another model.
    """
    path = Path(path)
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise KolorsError(
            f"{locate(path)} is a GGUF file, which needs the package gguf. Run 'python -m pip install gguf' with "
            "ComfyUI's Python, or use a .safetensors file of the encoder."
        ) from error
    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # of any type, for a damaged header is read as whatever it says
        raise KolorsError(f"{locate(path)} is a damaged GGUF file. Download it again. ({error!r})") from error
    architecture, vocabulary = fields.get("general.architecture"), fields.get("tokenizer.ggml.model")
    if architecture != ARCHITECTURE or vocabulary != VOCABULARY:
        raise KolorsError(
            f"{locate(path)} is a GGUF file of the model family {architecture}, with a vocabulary of the kind "
            f"{vocabulary}. Expected {ARCHITECTURE} with {VOCABULARY}, which chatglm3-6b has. Choose that model's file."
        )
    check_size(sum(int(source.n_bytes) for source in reader.tensors), path)
    sources, tensors = {}, {}
    for source in reader.tensors:
        if key := published_name(source.name):
            sources[key] = source
            tensors[key] = torch.empty([int(size) for size in source.shape[::-1]], dtype=torch.float16, device="meta")
    try:
        config = {
            "kv_channels": fields["chatglm.embedding_length"] // fields["chatglm.attention.head_count"],
            "layernorm_epsilon": fields["chatglm.attention.layer_norm_rms_epsilon"],
        }
        model = build_tokenizer(*(fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type")))
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise KolorsError(
            f"{locate(path)} is an incomplete GGUF file: {error.args[0]} is missing. Download it again."
        ) from error
    tensors[TOKENIZER_KEY] = torch.frombuffer(bytearray(model), dtype=torch.uint8)
    return GGUFWeights(tensors, {"config": json.dumps(config)}, sources)


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
