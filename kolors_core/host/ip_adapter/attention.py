"""Attention to image tokens inside the host's UNet: where its cross attentions are, and what replaces them.

Everything goes through the patcher's own attn2 replacement, so area conditioning, batches of any make-up, other passes
and other packs' patches work as without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import comfy.utils
import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor
from torch.nn.functional import interpolate

from .. import cpu

EVERY_SIGMA = 1e6  # above that of any schedule; the host's own figure for the start of a run is larger
IMAGE, NEGATIVE = 0, 1  # what an image token belongs to, in the host's numbering of conditioning


@dataclass(frozen=True)
class AttentionSite:
    """A transformer module of the UNet in the host's numbering: its cross attentions are (block, number, 0...)."""

    block: str
    number: int
    widths: tuple[int, ...]  # of each cross attention
    context_width: int


def find_sites(unet) -> dict[str, list[AttentionSite]]:
    """The transformer modules of a UNet by kind of block, each in the order of computation."""
    blocks = {"input": unet.input_blocks, "middle": [unet.middle_block], "output": unet.output_blocks}
    return {
        kind: [
            AttentionSite(
                kind,
                number,
                tuple(block.attn2.to_k.weight.shape[0] for block in layer.transformer_blocks),
                layer.transformer_blocks[0].attn2.to_k.weight.shape[1],
            )
            for number, layers in enumerate(modules)
            for layer in layers
            if hasattr(layer, "transformer_blocks")
        ]
        for kind, modules in blocks.items()
    }


def ease_in(position: float) -> float:
    return 0.05 + 0.95 * (1 - position)


def ease_out(position: float) -> float:
    return 0.05 + 0.95 * position


def ease_in_out(position: float) -> float:
    return 0.05 + 0.95 * (1 - abs(2 * position - 1))


#: How the weight follows the share of the modules that come before, from 0 to under 1. The figures are IPAdapter_plus'.
EASES = {"linear": lambda position: 1.0, "ease in": ease_in, "ease out": ease_out, "ease in-out": ease_in_out}
WEIGHT_TYPES = (*EASES, "style", "composition", "style and composition")


def in_adapter_order(sites: dict[str, list[AttentionSite]]) -> list[AttentionSite]:
    """The transformer modules in diffusers' order, which an adapter's projections have: down, up, middle."""
    return [*sites["input"], *sites["output"], *sites["middle"]]


def site_weights(sites: dict[str, list[AttentionSite]], weight_type: str) -> dict[AttentionSite, float]:
    """The share of the weight that each transformer module gets.

    Style is carried by the second module of the first output block, composition by the last module of the input blocks.
    Source: Wang et al., "InstantStyle" (2024).
    """
    order = [*sites["input"], *sites["middle"], *sites["output"]]
    if weight_type in EASES:
        return {site: EASES[weight_type](index / len(order)) for index, site in enumerate(order)}
    chosen = {"style": [sites["output"][1]], "composition": [sites["input"][-1]]}
    return {site: 1.0 for name in weight_type.split(" and ") for site in chosen[name]}


class SigmaRange:
    """Which steps of a run a range of sigma holds, without waiting for the device to tell the step's sigma."""

    def __init__(self, first: float, last: float):
        """first: the largest sigma, at which the range begins; last: the smallest."""
        self.first, self.last = first, last
        self._step: tuple[Tensor | None, bool | Tensor] = (None, True)

    def holds(self, options: dict) -> bool | Tensor:
        """Whether it holds this step, asked once per step.

        A bool where the answer is at hand, as for every step of a range without ends or for a sigma on the CPU;
        elsewhere a 0-dim bool tensor on the sigma's device.
        """
        sigmas = options.get("sigmas")
        if sigmas is None or (self.first >= EVERY_SIGMA and self.last <= 0):
            return True
        if self._step[0] is not sigmas:
            sigma = sigmas.max()
            held = (sigma >= self.last) & (sigma <= self.first)
            self._step = (sigmas, bool(held) if cpu.is_at_hand(held) else held)
        return self._step[1]

    def release(self) -> None:
        self._step = (None, True)


def add_where(held: bool | Tensor, add: Callable[[], Tensor], out: Tensor) -> Tensor:
    """`out` with `add` where `held`, an answer of `SigmaRange`, says so; not computed where it has no effect."""
    if held is False:
        return out
    return out + (add() if held is True else add() * held)


class Scope:
    """When and where image tokens have an effect, shared by all cross attentions that attend to them."""

    def __init__(self, sigmas: SigmaRange, mask: Tensor | None):
        """mask: (m, height, width) of 0..1 over the image."""
        self.sigmas = sigmas
        self.mask = mask
        self._masks: dict[tuple, Tensor] = {}

    def mask_for(self, like: Tensor, batch: int, options: dict) -> Tensor:
        """The mask over the cells of an attention: like (b, cells, width) -> (b, cells, 1)."""
        entries, cells, _ = like.shape
        height, width = options["original_shape"][-2:]
        key = (entries, cells, height, width, batch, like.dtype, like.device)
        if key not in self._masks:
            assert self.mask is not None, "there is no mask"
            grid = find_grid(height, width, cells)
            mask = interpolate(self.mask[:, None].float(), grid, mode="area").flatten(1)  # (m, cells)
            mask = comfy.utils.repeat_to_batch_size(mask, batch).repeat(entries // batch, 1)
            self._masks = {**self._masks, key: mask[..., None].to(like)}
        return self._masks[key]

    def release(self) -> None:
        self._masks = {}
        self.sigmas.release()


def find_grid(height: int, width: int, cells: int) -> tuple[int, int]:
    """Rows and columns of an attention over `cells`, in a UNet that was given (height, width) latent cells.

    Each level halves both, rounding up. Where something else merged cells, the grid of the nearest proportions.
    """
    rows, columns = height, width
    while rows * columns > cells and rows * columns > 1:
        rows, columns = -(-rows // 2), -(-columns // 2)
    if rows * columns == cells:
        return rows, columns
    wanted = (cells * height / width) ** 0.5
    rows = min((row for row in range(1, cells + 1) if cells % row == 0), key=lambda row: abs(row - wanted))
    return rows, cells // rows


class ImageAttention:
    """Replaces one cross attention: to what it gave, the attention to an image prompt is added.

    `inner` is what stood there before: the text's attention, or the replacement by another adapter or pack. The object
    is shared by all clones of a model and holds no state but copies of its tensors where they are used.
    """

    def __init__(self, scope: Scope, key: Tensor, value: Tensor, inner: Callable | None):
        """key, value: (2, i, t, width), of image and negative; one per latent of a batch, in turn, or one for all."""
        self.scope = scope
        self.key, self.value = key, value
        self.inner = inner or attend
        self.guests: list[tuple[Callable, dict, SigmaRange]] = []
        self._batches: dict[tuple, tuple[Tensor, Tensor]] = {}

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, options: dict) -> Tensor:
        """query (b, cells, width), key and value (b, tokens, width) of the text -> (b, cells, width)."""
        out = self.inner(query, key, value, options)
        out = add_where(self.scope.sigmas.holds(options), lambda: self._attend(query, options), out)
        for callback, settings, sigmas in self.guests:
            guest = partial(callback, out, query, key, value, options, **settings)
            out = add_where(sigmas.holds(options), guest, out)
        return out

    def _attend(self, query: Tensor, options: dict) -> Tensor:
        """Attention to the image tokens alone."""
        kinds = tuple(options.get("cond_or_uncond") or (IMAGE,))
        image = attend(query, *self._for_batch(query, kinds), options)
        if self.scope.mask is not None:
            image = image * self.scope.mask_for(query, len(query) // len(kinds), options)
        return image

    def _for_batch(self, query: Tensor, kinds: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Key and value (b, t, width) for the entries of `query`, which are a batch per kind, on its device."""
        signature = (kinds, len(query), query.dtype, query.device)  # prompts may be computed one by one, in turn
        if signature not in self._batches:
            batch = len(query) // len(kinds)

            def repeat(tensor: Tensor) -> Tensor:
                parts = (tensor[NEGATIVE if kind == NEGATIVE else IMAGE] for kind in kinds)
                return torch.cat([comfy.utils.repeat_to_batch_size(part, batch) for part in parts]).to(query)

            self._batches[signature] = (repeat(self.key), repeat(self.value))
        return self._batches[signature]

    def to(self, *args, **kwargs) -> ImageAttention:
        """Called by the host when it moves the model: what was made for sampling is let go."""
        self._batches = {}
        self.scope.release()
        return self

    def add(self, callback: Callable, **settings) -> None:
        """Called by IPAdapter_plus when it finds a replacement in its place: its attention is added as well."""
        sigmas = SigmaRange(settings.get("sigma_start", EVERY_SIGMA), settings.get("sigma_end", 0.0))
        self.guests.append((callback, settings, sigmas))

    def __deepcopy__(self, memo) -> ImageAttention:
        """A clone's own list of guests, over the same tensors: hosts up to 0.8 copy a model's options in depth."""
        copied = ImageAttention(self.scope, self.key, self.value, self.inner)
        copied.guests = list(self.guests)
        return copied


def attend(query: Tensor, key: Tensor, value: Tensor, options: dict) -> Tensor:
    """The host's attention as it calls it itself for these options."""
    return optimized_attention(
        query,
        key,
        value,
        options["n_heads"],
        attn_precision=options.get("attn_precision"),
        transformer_options=options,
    )
