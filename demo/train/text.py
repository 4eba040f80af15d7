"""The miniature's text side: its tokenizer, and prompts encoded cheaply but exactly as the nodes encode them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from common import WORK
from data import COLOURS, EMOJI, NEUTRAL, bare
from torch import Tensor

from demo import random_models
from kolors_core.networks.chatglm3 import ChatGLM3Config, ChatGLM3Encoder, pack_prompts
from kolors_core.networks.tokenizer import PROMPT_ROWS, SPECIAL_TOKENS, ChatGLM3Tokenizer

HIDDEN, HEAD, GROUPS, LAYERS, FFN = 128, 32, 2, 4, 384


def train_own_tokenizer() -> bytes:
    """A small bilingual SentencePiece model. It sees words and names, not captions, so that its pieces combine."""
    zh = [name for emoji in EMOJI for name in emoji.zh] + [chinese for _, chinese in COLOURS.values()]
    words = ("背景", "上", "的", "一张", "图", "一个", "是", "左边", "右边", "小小", "在")
    en = [name for emoji in EMOJI for name in emoji.en] + [bare(name) for emoji in EMOJI for name in emoji.en]
    frame = [*COLOURS, "background", "a", "an", "on", "the", "is", "picture", "of", "small", "left", "right"]
    lines = [f"，{a}，{b}，" for a, b in itertools.pairwise(zh)] * 3 + [f"，{word}，" for word in words] * 20
    lines += [f"{name}, {name}" for name in en] * 3 + frame * 40 + [*NEUTRAL.values()] * 5
    return random_models.train_tokenizer(lines, 1271)


def load_tokenizer() -> ChatGLM3Tokenizer:
    """The tokenizer of the work folder, trained at the first call."""
    path = WORK / "tokenizer.model"
    if not path.is_file():
        path.write_bytes(train_own_tokenizer())
    return ChatGLM3Tokenizer(path.read_bytes(), str(path))


def build_encoder(tokenizer: ChatGLM3Tokenizer) -> ChatGLM3Encoder:
    """An untrained ChatGLM3 of the miniature's size; its table has room for the special tokens."""
    rows = -(-(tokenizer.processor.vocab_size() + len(SPECIAL_TOKENS)) // 256) * 256
    config = ChatGLM3Config(rows, HIDDEN, LAYERS, HEAD, GROUPS, FFN)
    encoder = ChatGLM3Encoder(config)
    torch.nn.init.normal_(encoder.embedding.word_embeddings.weight, std=0.5)
    return encoder


def tokenize(tokenizer: ChatGLM3Tokenizer, text: str) -> list[int]:
    """Ids of a prompt: [gMASK] sop + text, without padding."""
    prefix = [tokenizer.processor.vocab_size() + SPECIAL_TOKENS.index(name) for name in ("[gMASK]", "sop")]
    return prefix + tokenizer.processor.encode(text)


def encode_short(encoder: ChatGLM3Encoder, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Encode prompts of b token lists; equal to the 256 padded rows, in as few rows as the longest prompt needs.

    Returns context (b, r, hidden), the attention bias of its rows (b, r), and pooled (b, hidden). A row of padding
    stands for several equal ones; the logarithm of how many is its bias.
    """
    packed = pack_prompts(prompts, PROMPT_ROWS)
    hidden, pooled = encoder(packed)
    rows = max(map(len, prompts)) + 1
    bias = torch.zeros(len(prompts), rows)
    for row, prompt in enumerate(prompts):
        padding = rows - len(prompt)
        bias[row, :padding] = math.log((PROMPT_ROWS - len(prompt)) / padding)
    return hidden[packed.expand[:, -rows:]], bias, pooled
