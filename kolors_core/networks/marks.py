"""What is known of a prompt's tensor: how many of its leading tokens are equal, and what layers have made of it.

Both stand in an attribute of that very tensor object: what other code makes of it has none, and is computed in full.
And both end with it. What is kept is made outside of inference mode, where torch counts the changes in place of a
tensor, so that one that has been changed is computed again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MARK = "kolors_mark"


class Room:
    """Bytes that are left for what is kept."""

    __slots__ = ("left",)

    def __init__(self, left: int):
        self.left = left

    def take(self, count: int) -> bool:
        """Whether there was room for so many bytes, which is taken then."""
        if fits := count <= self.left:
            self.left -= count
        return fits


class Mark:
    """equal_tokens: how many leading tokens of each prompt are equal; 1 where nothing is known.

    room: for the products of layers that are to be kept; None where none are.
    """

    __slots__ = ("equal_tokens", "products", "room", "version")

    def __init__(self, equal_tokens: int, room: Room | None = None, version: int = 0):
        self.equal_tokens, self.room, self.version = equal_tokens, room, version
        self.products: dict[nn.Linear, tuple[Tensor, Tensor]] = {}

    def holds(self, x: Tensor) -> bool:
        """Whether x, the marked tensor, is what it was; unknown of one that keeps nothing."""
        return self.room is None or x._version == self.version

    def product(self, layer: nn.Linear, x: Tensor, multiply: Callable[[Tensor, int], Tensor]) -> Tensor:
        """What `multiply` makes of x, the marked tensor, and its equal tokens: by `layer`, whose weight tells a change.

        The product is kept where there is room, and is marked then like x.
        """
        if self.room is None or torch.is_grad_enabled():
            return multiply(x, self.equal_tokens)
        if not self.holds(x):
            return multiply(x, 1)
        weight, kept = self.products.get(layer, (None, None))
        if kept is not None and weight is layer.weight and is_known(kept):
            return kept
        with torch.inference_mode(False), torch.no_grad():
            made = multiply(x, self.equal_tokens)
        if kept is not None or self.room.take(made.nbytes):
            keep(made, self.equal_tokens, self.room)
            self.products[layer] = layer.weight, made
        return made


def mark(x: Tensor, count: int) -> Tensor:
    """A view of x (b, tokens, width), known to have `count` equal leading tokens."""
    x = x.view_as(x)
    setattr(x, MARK, Mark(count))
    return x


def keep(x: Tensor, count: int, room: Room) -> Tensor:
    """x itself, made outside of inference mode: known to have `count` equal leading tokens; its products are kept."""
    setattr(x, MARK, Mark(count, room, x._version))
    return x


def is_known(x: Tensor) -> bool:
    """Whether x is marked, and not changed since."""
    found = getattr(x, MARK, None)
    return found is not None and found.holds(x)


def equal_tokens(x: Tensor) -> int:
    """How many leading tokens of x (b, tokens, width) are known to be equal; 1 where nothing is known."""
    found = getattr(x, MARK, None)
    return found.equal_tokens if found is not None and found.holds(x) else 1
