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
ALIGNMENT = 64  # bytes, as torch's own


class Room:
    """Bytes that are left for what is kept.

    block: how many are taken from the system at once; 0 leaves each tensor where it was made. C libraries take what
    they have room for from the same heap: what is kept there between what comes and goes in each step makes them give
    memory back and take it again, which cost 80,000 page faults in four steps at 512 px.
    """

    def __init__(self, left: int, block: int = 0):
        self.left, self.block = left, block
        self._free: Tensor | None = None  # of the last block

    def place(self, x: Tensor) -> Tensor | None:
        """x where it can stay, made outside of inference mode; None for lack of room."""
        size = x.nbytes
        if size > self.left:
            return None
        self.left -= size
        if not self.block:
            return x
        aligned = -(-size // ALIGNMENT) * ALIGNMENT
        if self._free is None or len(self._free) < aligned:
            self._free = x.new_empty(max(self.block, aligned), dtype=torch.uint8)
        place, self._free = self._free[:size].view(x.dtype).view(x.shape), self._free[aligned:]
        kept = torch.empty(0, dtype=x.dtype, device=x.device)  # not a view, whose changes all views would count
        kept.set_(place.untyped_storage(), place.storage_offset(), place.shape, place.stride())
        return kept.copy_(x)


def spread(x: Tensor, count: int) -> Tensor:
    """x (b, tokens, width) with its first token `count` times."""
    return x if count < 2 else torch.cat((x[:, :1].expand(-1, count - 1, -1), x), dim=1)


class Mark:
    """equal_tokens: how many leading tokens of each prompt are equal; 1 where nothing is known.

    room: for the products of layers that are to be kept; None where none are.
    whole: whether a product is kept as a tensor of all tokens, of which products are kept again, each equal token once.
    """

    __slots__ = ("equal_tokens", "products", "room", "version", "whole")

    def __init__(self, equal_tokens: int, room: Room | None = None, version: int = 0, whole: bool = False):
        self.equal_tokens, self.room, self.version, self.whole = equal_tokens, room, version, whole
        self.products: dict[nn.Linear, tuple[Tensor | None, Tensor]] = {}

    def holds(self, x: Tensor) -> bool:
        """Whether x, the marked tensor, is what it was; unknown of one that keeps nothing."""
        return self.room is None or x._version == self.version

    def product(self, layer: nn.Linear, x: Tensor, multiply: Callable[[Tensor], Tensor]) -> Tensor:
        """What `multiply` makes of x, the marked tensor, each of its equal tokens once: by `layer`, marked like x.

        The product is kept where there is room. Another weight of the layer, or a change in place, is noticed.
        """
        if not self.holds(x):
            return multiply(x)
        count = self.equal_tokens
        distinct = x[:, count - 1 :] if count > 1 else x
        if self.room is None or torch.is_grad_enabled():
            return marked(multiply(distinct), count)
        before, kept = self.products.get(layer, (None, None))
        weight = getattr(layer, "weight", None)  # layers of other packages may have none of this name
        if kept is None or weight is not before or not is_known(kept):
            with torch.inference_mode(False), torch.no_grad():
                made = multiply(distinct)
                placed = self.room.place(spread(made, count) if self.whole else made)
            if placed is None:
                return marked(made, count)
            kept = keep(placed, count if self.whole else 1, self.room)
            self.products[layer] = weight, kept
        return kept if self.whole or count < 2 else marked(kept, count)


def marked(distinct: Tensor, count: int) -> Tensor:
    """A tensor whose first token is there `count` times, marked so."""
    x = spread(distinct, count)
    if count > 1:
        setattr(x, MARK, Mark(count))
    return x


def mark(x: Tensor, count: int) -> Tensor:
    """A view of x (b, tokens, width), known to have `count` equal leading tokens."""
    x = x.view_as(x)
    setattr(x, MARK, Mark(count))
    return x


def keep(x: Tensor, count: int, room: Room, whole: bool = False) -> Tensor:
    """x itself, made outside of inference mode: known to have `count` equal leading tokens; its products are kept."""
    setattr(x, MARK, Mark(count, room, x._version, whole))
    return x


def is_known(x: Tensor) -> bool:
    """Whether x is marked, and not changed since."""
    found = getattr(x, MARK, None)
    return found is not None and found.holds(x)


def equal_tokens(x: Tensor) -> int:
    """How many leading tokens of x (b, tokens, width) are known to be equal; 1 where nothing is known."""
    found = getattr(x, MARK, None)
    return found.equal_tokens if found is not None and found.holds(x) else 1
