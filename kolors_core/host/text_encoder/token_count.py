"""How many tokens a prompt takes, counted without the encoder: of its file the header is read, and the tokenizer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import comfy.sd1_clip
from torch import Tensor

from ...files.gguf import is_gguf, open_gguf
from ...files.header import SAFETENSORS, read_head
from ...files.identify import find_chatglm3
from ...files.kinds import CHECKPOINT, ENCODER
from ...files.torch_pickle import ZIP
from ...files.weights import open_weights
from ...networks.tokenizer import TOKENIZER_KEY, VOCABULARY, ChatGLM3Tokenizer
from .. import model_files
from ..diffusers_folder import ENCODER_PART
from ..found_files import find_part
from .load import CHECKPOINT_PREFIX
from .tokenizer import split_weights
from .tokenizer_file import find_tokenizer

KEPT = 4  # tokenizers, of 11 MB each
#: What lies between two weighted parts of a prompt: brackets, and the number behind the first, which is none in (:1.2).
BETWEEN = re.compile(r"(?:[()]|(?<!\():\s*[\d._eE+-]+\s*(?=\)))*")
CHARACTER = re.compile("\0[\1\2]|.", re.DOTALL)  # of an escaped text, one of the text that is encoded


class Tokenizers:
    """The tokenizers of encoders by the names that the loaders show; the last ones are kept while their files stay."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None], tuple[str, ChatGLM3Tokenizer]] = {}

    def find(self, kind: str, name: str | None) -> ChatGLM3Tokenizer:
        """The tokenizer that the loader of `kind` finds for `name`; any in text_encoders where there is no such file.

        Raises KolorsError where none is found, or the file cannot be read.
        """
        state, tokenizer = self._kept.pop((kind, name), ("", None))
        if tokenizer is None or state != _describe(kind, name, tokenizer):
            tokenizer = _read(kind, name)
            state = _describe(kind, name, tokenizer)
        self._kept[kind, name] = state, tokenizer  # the last one used is the last one in order
        for oldest in list(self._kept)[:-KEPT]:
            del self._kept[oldest]
        return tokenizer


def _describe(kind: str, name: str | None, tokenizer: ChatGLM3Tokenizer) -> str:
    """Changes when the file of the encoder does, or that of its tokenizer."""
    file = model_files.describe_state("tokenizer", lambda: tokenizer.source)
    return f"{model_files.fingerprint(kind, name)}\n{file}"


def _read(kind: str, name: str | None) -> ChatGLM3Tokenizer:
    try:
        path = model_files.resolve(kind, name)
    except FileNotFoundError:
        path = None
    if path and os.path.isdir(path):
        path, kind = find_part(path, ENCODER_PART, ENCODER), ENCODER
    if path is None:
        return find_tokenizer(None, VOCABULARY, owner="a Kolors text encoder")
    tensors = _open(path)
    embedding = tensors.get(f"{find_chatglm3(tensors) or ''}embedding.word_embeddings.weight")
    rows = len(embedding) if embedding is not None and embedding.dim() else VOCABULARY
    if kind == CHECKPOINT:
        return find_tokenizer(None, rows, tensors.get(CHECKPOINT_PREFIX + TOKENIZER_KEY))
    return find_tokenizer(path, rows, tensors.get(TOKENIZER_KEY))


def _open(path: str) -> dict[str, Tensor]:
    """The tensors of a file, mapped; none of one that would have to be read whole."""
    if is_gguf(path):
        return open_gguf(path).tensors
    head = read_head(Path(path))
    return open_weights(path).tensors if SAFETENSORS.match(head) or head.startswith(ZIP) else {}


def count_tokens(tokenizer: ChatGLM3Tokenizer, text: str, limit: int) -> tuple[int, int | None]:
    """How many tokens a prompt takes, and its character at which those beyond `limit` begin; None where none are.

    Raises KolorsError for what `split_weights` refuses.
    """
    segments = [segment for segment, _ in split_weights(text)]
    plain = [comfy.sd1_clip.unescape_important(segment) for segment in segments]
    count, cut = tokenizer.measure("".join(plain), limit)
    if cut is None:
        return count, None
    for start, segment, words in zip(_starts(text, segments), segments, plain):
        if cut < len(words):
            return count, start + list(CHARACTER.finditer(segment))[cut].start()
        cut -= len(words)
    return count, len(text)


def _starts(text: str, segments: list[str]) -> Iterator[int]:
    """Where the parts of `split_weights` begin in a prompt: each is a piece of it, and only BETWEEN lies between."""
    escaped, end = comfy.sd1_clip.escape_important(text), 0  # as long as the text
    for segment in segments:
        match = BETWEEN.match(escaped, end)
        last = match.end() if match else end
        start = escaped.rfind(segment, end, last + len(segment))
        yield start
        end = start + len(segment)
