"""The IP-Adapters of Kolors, top to bottom: IP-Adapter Plus for any image, FaceID Plus for a face.

Both turn the penultimate hidden states of a CLIP vision encoder into a few image tokens, which a key and a value
projection per cross attention of the UNet then offer beside the text. Plus asks for them with learned queries; FaceID
Plus asks with queries made from a face embedding, and its tokens are ChatGLM3-wide: the UNet's own text projection
brings them to the width of the cross attention. Sources: Ye et al., "IP-Adapter" (2023); ``load_ip_adapter`` of
diffusers, and ``ipa_faceid_plus.py`` of Kwai-Kolors, against which they are tested.

Axes: i images, s states of the vision encoder, t image tokens, w width, n attention heads, d head size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.types import Device

from ..errors import BadFile
from ..keys import count_indices
from .operations import Builder, Dtype, Operations

HEAD_DIM = 64  # of the resampler, in every published adapter; no shape shows it


@dataclass(frozen=True)
class IPAdapterConfig:
    """Sizes of an adapter; the defaults are the released ``ip_adapter_plus_general``, but for its projections."""

    image_width: int = 1024
    width: int = 2048
    heads: int = 12
    depth: int = 4
    ffn_size: int = 8192
    tokens: int = 16
    token_width: int = 2048
    context_width: int = 2048
    projections: tuple[int, ...] = ()  # the width of each cross attention, in diffusers' order: down, up, middle
    face_width: int | None = None  # of the face embedding; None where there is none

    @property
    def is_face(self) -> bool:
        return self.face_width is not None

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> IPAdapterConfig:
        """Read the sizes from the shapes of a published file's tensors, under our names.

        Raises BadFile where the file lacks a tensor that tells a size, or is no adapter of this kind.
        """
        face = "image_proj.perceiver_resampler.proj_in.weight" in state_dict
        resampler = "image_proj.perceiver_resampler." if face else "image_proj."
        try:
            modules = sorted({int(key.split(".")[1]) for key in state_dict if key.startswith("ip_adapter.")})
            width, image_width = state_dict[resampler + "proj_in.weight"].shape
            projections = [state_dict[f"ip_adapter.{module}.to_k_ip.weight"].shape for module in modules]
            if face:
                face_width = state_dict["image_proj.proj.0.weight"].shape[1]
                tokens = state_dict["image_proj.proj.2.weight"].shape[0] // width
            else:
                face_width = None
                tokens = state_dict["image_proj.latents"].shape[1]
            return cls(
                image_width=image_width,
                width=width,
                heads=state_dict[resampler + "layers.0.0.to_q.weight"].shape[0] // HEAD_DIM,
                depth=count_indices(state_dict, resampler + "layers."),
                ffn_size=state_dict[resampler + "layers.0.1.1.weight"].shape[0],
                tokens=tokens,
                token_width=state_dict[resampler + "proj_out.weight"].shape[0],
                context_width=projections[0][1],
                projections=tuple(shape[0] for shape in projections),
                face_width=face_width,
            )
        except KeyError as error:
            raise BadFile(f"is an incomplete IP-Adapter: {error.args[0]} is missing. Download it again.") from None
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise BadFile(
                f"is a damaged IP-Adapter: its tensors have other names or numbers of dimensions than an adapter has "
                f"({error}). Download it again."
            ) from None


class ResamplerAttention(nn.Module):
    """Queries attend to the image states and to themselves."""

    def __init__(self, config: IPAdapterConfig, build: Builder):
        super().__init__()
        inner = config.heads * HEAD_DIM
        self.norm1 = build.layer_norm(config.width)
        self.norm2 = build.layer_norm(config.width)
        self.to_q = build.linear(config.width, inner)
        self.to_kv = build.linear(config.width, 2 * inner)
        self.to_out = build.linear(inner, config.width)

    def forward(self, states: Tensor, queries: Tensor) -> Tensor:
        """states (i, s, w), queries (i, t, w) -> (i, t, w)."""
        queries = self.norm2(queries)
        attended = torch.cat((self.norm1(states), queries), dim=1)  # (i, s + t, w)
        heads = (self.to_q(queries), *self.to_kv(attended).chunk(2, dim=-1))
        heads = (x.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for x in heads)  # (i, n, s + t or t, d)
        out = nn.functional.scaled_dot_product_attention(*heads)  # (i, n, t, d)
        return self.to_out(out.transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """Image states (i, s, image width) to tokens (i, t, token width), asked for by queries (i, t, w)."""

    def __init__(self, config: IPAdapterConfig, build: Builder):
        super().__init__()

        def feed_forward() -> nn.Sequential:
            return nn.Sequential(
                build.layer_norm(config.width),
                build.linear(config.width, config.ffn_size),
                nn.GELU(),
                build.linear(config.ffn_size, config.width),
            )

        self.proj_in = build.linear(config.image_width, config.width, bias=True)
        self.layers = nn.ModuleList(
            nn.ModuleList((ResamplerAttention(config, build), feed_forward())) for _ in range(config.depth)
        )
        self.proj_out = build.linear(config.width, config.token_width, bias=True)
        self.norm_out = build.layer_norm(config.token_width)

    def resample(self, states: Tensor, queries: Tensor) -> Tensor:
        states = self.proj_in(states)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            queries = attention(states, queries) + queries
            queries = feed_forward(queries) + queries
        return self.norm_out(self.proj_out(queries))


class ImageProjection(Resampler):
    """Plus: learned queries."""

    def __init__(self, config: IPAdapterConfig, build: Builder):
        super().__init__(config, build)
        self.latents = nn.Parameter(torch.empty(1, config.tokens, config.width, dtype=build.dtype, device=build.device))

    def forward(self, states: Tensor) -> Tensor:
        """states (i, s, image width) -> tokens (i, t, token width)."""
        return self.resample(states, self.latents.to(states).expand(len(states), -1, -1))


class FaceProjection(nn.Module):
    """FaceID Plus: queries from the face embedding, which the tokens are added to."""

    def __init__(self, config: IPAdapterConfig, face_width: int, build: Builder):
        super().__init__()
        hidden = 2 * face_width
        self.proj = nn.Sequential(
            build.linear(face_width, hidden, bias=True),
            nn.GELU(),
            build.linear(hidden, config.width * config.tokens, bias=True),
        )
        self.norm = build.layer_norm(config.width)
        self.perceiver_resampler = Resampler(config, build)
        self.tokens = config.tokens

    def forward(self, states: Tensor, faces: Tensor) -> Tensor:
        """states (i, s, image width) of the face crops, faces (i, face width) -> tokens (i, t, token width)."""
        queries = self.norm(self.proj(faces).unflatten(-1, (self.tokens, -1)))  # (i, t, w)
        return queries + self.perceiver_resampler.resample(states, queries)


class Projection(nn.Module):
    """Key and value of the image tokens for one cross attention of the UNet."""

    def __init__(self, config: IPAdapterConfig, width: int, build: Builder):
        super().__init__()
        self.to_k_ip = build.linear(config.context_width, width)
        self.to_v_ip = build.linear(config.context_width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (i, t, context width) -> key and value (i, t, width)."""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class IPAdapter(nn.Module):
    """An adapter under its published key names. `operations`: with Linear and LayerNorm."""

    def __init__(
        self, config: IPAdapterConfig, dtype: Dtype = None, device: Device = None, operations: Operations = nn
    ):
        super().__init__()
        build = Builder(operations, dtype, device)
        self.config = config
        if config.face_width is None:
            self.image_proj = ImageProjection(config, build)
        else:
            self.image_proj = FaceProjection(config, config.face_width, build)
        # The published names count the self attentions in between, which have no projection.
        self.ip_adapter = nn.ModuleDict(
            {str(2 * index + 1): Projection(config, width, build) for index, width in enumerate(config.projections)}
        )

    def encode(self, states: Tensor, faces: Tensor | None = None) -> Tensor:
        """Image tokens (i, t, token width) of vision states (i, s, image width), and of faces (i, face width)."""
        return self.image_proj(states) if faces is None else self.image_proj(states, faces)

    def keys_values(
        self, tokens: Tensor, text_projection: Callable[[Tensor], Tensor] | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Key and value (i, t, width) of the tokens (i, t, token width) for each cross attention, in diffusers' order.

        text_projection: where the tokens are a face's, the UNet's encoder_hid_proj, which they go through as text does.
        """
        if text_projection is not None:
            tokens = text_projection(tokens)
        return [projection(tokens) for projection in self.ip_adapter.values()]
