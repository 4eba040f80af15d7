"""The ChatGLM3 text encoder of Kolors, top to bottom.

Of ChatGLM3-6B only what Kolors runs: no KV cache, prefix tuning, language-model head or final norm. Sources: Du et al.,
"GLM" (2022); Zeng et al., "GLM-130B" (2023); ``modeling_chatglm.py`` of THUDM and of Kwai-Kolors; diffusers'
``pipelines/kolors/text_encoder.py``, against which it is tested.

The reference pads every prompt on the left to 256 rows, and a padded row attends to all 256. So all padded rows of a
prompt are equal in every layer, and no real row ever sees one. It is therefore exact to compute ONE padded row whose
key counts (rows - n) times, which a bias of log(rows - n) on its attention score does. Several prompts are packed end
to end as one sequence under a block-diagonal bias, so that no row is computed that is not needed.

Axes: r packed rows, q of them that ask, h hidden, a attention heads, g key/value groups, d head size, p prompts, n rows
of a padded prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.types import Device

from ..errors import BadFile
from .operations import Builder, Operations
from .tokenizer import PAD_ID

DOWNLOAD_AGAIN = "Download it again; of a sharded model put all parts and their .index.json into one folder."

#: attention(query, key, value, bias) -> (1, a, q, d); query (1, a, q, d), key and value (1, a, r, d), bias (q, r)
Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ChatGLM3Config:
    """Sizes of the encoder; the defaults are the released checkpoint."""

    vocab_size: int = 65024
    hidden_size: int = 4096
    num_layers: int = 28
    head_dim: int = 128
    num_groups: int = 2
    ffn_size: int = 13696
    norm_eps: float = 1e-5

    @property
    def num_heads(self) -> int:
        return self.hidden_size // self.head_dim

    @property
    def rotary_dim(self) -> int:
        """Features of a head that are rotated: half of it."""
        return self.head_dim // 2

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor], config: dict[str, Any] | None = None) -> ChatGLM3Config:
        """Read the sizes from tensor shapes.

        The head size shows in no weight: it comes from the length of ``rotary_pos_emb.inv_freq`` (a quarter of it),
        else from `config` (ChatGLM's ``kv_channels``), else it is the released 128. Raises BadFile where a tensor that
        tells a size is missing, the sizes do not fit together, or a layer is missing.
        """
        try:
            return cls._from_shapes(state_dict, config or {})
        except KeyError as error:
            raise BadFile(
                f"is an incomplete ChatGLM3 text encoder: {error.args[0]} is missing. {DOWNLOAD_AGAIN}"
            ) from None
        except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError) as error:
            raise BadFile(
                f"is a damaged ChatGLM3 text encoder: its tensors and configuration are inconsistent ({error}). "
                f"{DOWNLOAD_AGAIN}"
            ) from error

    @classmethod
    def _from_shapes(cls, state_dict: dict[str, Tensor], config: dict[str, Any]) -> ChatGLM3Config:
        layers = {int(key.split(".")[2]) for key in state_dict if key.startswith("encoder.layers.")}
        layer = f"encoder.layers.{min(layers, default=0)}"
        vocab_size, hidden_size = state_dict["embedding.word_embeddings.weight"].shape
        qkv_rows = state_dict[f"{layer}.self_attention.query_key_value.weight"].shape[0]
        ffn_size = state_dict[f"{layer}.mlp.dense_h_to_4h.weight"].shape[0] // 2
        num_layers = max(max(layers) + 1, int(config.get("num_layers", 0)))
        if num_layers > 2 * len(layers):  # a few missing ones are named by their tensors
            raise BadFile(
                f"is an incomplete ChatGLM3 text encoder: it has {len(layers)} of {num_layers} layers. {DOWNLOAD_AGAIN}"
            )
        inv_freq = state_dict.get("rotary_pos_emb.inv_freq")
        head_dim = inv_freq.shape[0] * 4 if inv_freq is not None else int(config.get("kv_channels", cls.head_dim))
        num_groups, odd = divmod(qkv_rows - hidden_size, 2 * head_dim)
        if odd or num_groups < 1 or hidden_size % head_dim:
            raise BadFile(
                f"is a ChatGLM3 text encoder whose head size cannot be {head_dim} (hidden size {hidden_size}, "
                f"{qkv_rows} rows of query_key_value). Put ChatGLM's config.json, with kv_channels, beside it."
            )
        return cls(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            head_dim=head_dim,
            num_groups=num_groups,
            ffn_size=ffn_size,
            norm_eps=float(config.get("layernorm_epsilon", cls.norm_eps)),
        )


def sdpa(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Torch's own attention; the default outside of a host."""
    return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first features of each head, in interleaved pairs; x (1, heads, r, d), cos and sin (r, pairs)."""
    rotary_dim = 2 * cos.shape[-1]
    even, odd = x[..., :rotary_dim:2], x[..., 1:rotary_dim:2]  # (1, heads, r, pairs) each
    rotated = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)  # (1, heads, r, rotary)
    return torch.cat((rotated, x[..., rotary_dim:]), dim=-1)


class RotaryEmbedding(nn.Module):
    """Rotary position table. ``inv_freq`` is a key of the published files; here its length carries the head size."""

    inv_freq: Tensor

    def __init__(self, rotary_dim: int, device: Device = None):
        super().__init__()
        self.rotary_dim = rotary_dim
        exponent = torch.arange(0, rotary_dim, 2, dtype=torch.float32, device=device) / rotary_dim
        self.register_buffer("inv_freq", 10000.0**-exponent)

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin, each (r, pairs); from float32, as the stored buffer is half precision in most files."""
        exponent = torch.arange(0, self.rotary_dim, 2, dtype=torch.float32, device=positions.device) / self.rotary_dim
        angle = torch.outer(positions.float(), 10000.0**-exponent)
        return angle.cos().to(dtype), angle.sin().to(dtype)


class SelfAttention(nn.Module):
    """Attention with rotary positions and grouped keys and values."""

    def __init__(self, config: ChatGLM3Config, build: Builder, attention: Attention):
        super().__init__()
        self.config = config
        self.attention = attention
        qkv_rows = config.hidden_size + 2 * config.num_groups * config.head_dim
        self.query_key_value = build.linear(config.hidden_size, qkv_rows, bias=True)
        self.dense = build.linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor, rows: Tensor | None) -> Tensor:
        c = self.config
        sizes = (c.hidden_size, c.num_groups * c.head_dim, c.num_groups * c.head_dim)
        query, key, value = (
            part.unflatten(-1, (-1, c.head_dim)).transpose(1, 2)  # (1, r, heads * d) -> (1, heads, r, d)
            for part in self.query_key_value(x).split(sizes, dim=-1)
        )
        query, key = rotate(query, *rotary), rotate(key, *rotary)
        if rows is not None:
            query, bias = query[:, :, rows], bias[rows]
        shared = c.num_heads // c.num_groups
        key = key.repeat_interleave(shared, dim=1)  # (1, g, r, d) -> (1, a, r, d)
        value = value.repeat_interleave(shared, dim=1)
        out = self.attention(query, key, value, bias)
        return self.dense(out.transpose(1, 2).flatten(2))  # (1, a, q, d) -> (1, q, a * d)


class MLP(nn.Module):
    """SwiGLU: the first half of the projection gates the second."""

    def __init__(self, config: ChatGLM3Config, build: Builder):
        super().__init__()
        self.dense_h_to_4h = build.linear(config.hidden_size, 2 * config.ffn_size)
        self.dense_4h_to_h = build.linear(config.ffn_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.dense_h_to_4h(x).chunk(2, dim=-1)
        return self.dense_4h_to_h(nn.functional.silu(gate) * up)


class Block(nn.Module):
    """One transformer layer, pre-norm; `build_norm` makes its norms."""

    def __init__(self, config: ChatGLM3Config, build: Builder, build_norm: Builder, attention: Attention):
        super().__init__()
        self.input_layernorm = build_norm.rms_norm(config.hidden_size, config.norm_eps)
        self.self_attention = SelfAttention(config, build, attention)
        self.post_attention_layernorm = build_norm.rms_norm(config.hidden_size, config.norm_eps)
        self.mlp = MLP(config, build)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor, rows: Tensor | None = None) -> Tensor:
        """x (1, r, h) -> (1, r, h), or only the given `rows` of it."""
        attended = self.self_attention(self.input_layernorm(x), rotary, bias, rows)
        x = attended + (x if rows is None else x[:, rows])
        return x + self.mlp(self.post_attention_layernorm(x))


class ChatGLM3Encoder(nn.Module):
    """Token embedding and the layers; module names are the keys of the published files.

    dtype: of the matrices. norm_dtype: of the embedding table and the norms, which do not bear 8-bit storage.
    operations: with Linear, Embedding and RMSNorm. attention: see `Attention`.
    """

    def __init__(
        self,
        config: ChatGLM3Config,
        dtype: torch.dtype = torch.float32,
        norm_dtype: torch.dtype | None = None,
        device: Device = None,
        operations: Operations = nn,
        attention: Attention = sdpa,
    ):
        super().__init__()
        build, build_norm = Builder(operations, dtype, device), Builder(operations, norm_dtype or dtype, device)
        self.config = config
        table = build_norm.embedding(config.vocab_size, config.hidden_size)
        self.embedding = nn.ModuleDict({"word_embeddings": table})
        self.rotary_pos_emb = RotaryEmbedding(config.rotary_dim, device=device)
        layers = (Block(config, build, build_norm, attention) for _ in range(config.num_layers))
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})

    def forward(
        self, packed: PackedPrompts, dtype: torch.dtype = torch.float32, after_layer: Callable[[], None] = lambda: None
    ) -> tuple[Tensor, Tensor]:
        """Run the packed rows; `dtype` is that of the activations. `after_layer` is called after each layer.

        Returns hidden_states[-2] of every row, (r, h), and hidden_states[-1] of each prompt's last token, (p, h).
        """
        x = self.embedding["word_embeddings"](packed.ids[None]).to(dtype)  # (1, r) -> (1, r, h)
        rotary = self.rotary_pos_emb(packed.positions, dtype)
        bias = packed.bias.to(dtype)
        *layers, last = self.encoder["layers"].children()
        for layer in layers:
            x = layer(x, rotary, bias)
            after_layer()
        pooled = last(x, rotary, bias, rows=packed.last)
        after_layer()
        return x[0], pooled[0]


@dataclass(frozen=True)
class PackedPrompts:
    """Prompts laid end to end, each as one padded row (where it has padding) and its tokens.

    ids, positions (r,) int64; bias (r, r) float32, added to attention scores; last (p,) int64, the row of each prompt's
    last token; expand (p, n) int64, the packed row behind each row of the padded prompt.
    """

    ids: Tensor
    positions: Tensor
    bias: Tensor
    last: Tensor
    expand: Tensor


def pack_prompts(prompts: Sequence[Sequence[int]], rows: int, device: Device = None) -> PackedPrompts:
    """Pack token lists of 1 to `rows` ids, without padding, that stand for prompts padded on the left to `rows`."""
    ids: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    expand: list[list[int]] = []
    blocks: list[Tensor] = []
    for prompt in prompts:
        count, padding = len(prompt), rows - len(prompt)
        if not 0 < count <= rows:
            raise ValueError(f"a prompt of {count} tokens does not fit {rows} rows")
        start, pad = len(ids), 1 if padding else 0
        ids += [PAD_ID] * pad + list(prompt)
        positions += [0] * pad + list(range(count))
        last.append(start + pad + count - 1)
        expand.append([start] * padding + list(range(start + pad, start + pad + count)))
        blocks.append(_attention_bias(count, padding))
    bias = torch.full((len(ids), len(ids)), -math.inf)
    start = 0
    for block in blocks:
        stop = start + block.shape[0]
        bias[start:stop, start:stop] = block
        start = stop
    return PackedPrompts(*(part.to(device) for part in map(torch.as_tensor, (ids, positions, bias, last, expand))))


def _attention_bias(count: int, padding: int) -> Tensor:
    """Bias of one prompt: its padded row first, then `count` tokens."""
    bias = torch.full((count, count), -math.inf).triu(1)  # a token sees the tokens up to itself
    if not padding:
        return bias
    bias = nn.functional.pad(bias, (1, 0, 1, 0))
    bias[1:, 0] = -math.inf  # no token sees padding
    bias[0, 0] = math.log(padding)  # the padded row sees everything, padding as often as it occurs
    return bias


def encode_prompts(
    model: ChatGLM3Encoder,
    prompts: Sequence[Sequence[int]],
    rows: int = 256,
    device: Device = None,
    dtype: torch.dtype = torch.float32,
    after_layer: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Encode token lists (prefix included, padding not) as the reference encodes them padded to `rows`.

    Equal prompts are computed once. Returns context (p, rows, h) and pooled (p, h) in `dtype`.
    """
    unique = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
    packed = pack_prompts(unique, rows, device)
    hidden, pooled = model(packed, dtype, after_layer)
    order = torch.tensor([unique.index(tuple(prompt)) for prompt in prompts], device=device)
    return hidden[packed.expand[order]], pooled[order]
