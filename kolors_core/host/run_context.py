"""The text of a sampling run as the host batches it, which is the same tensor in every step.

The host joins the prompts of a step anew and brings them to the device each time. These conditionings remember what
they joined: it is brought there once, and what the network makes of it, its projection and the keys and values of the
cross attentions, is kept for as long as the run has the conditionings.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import comfy.conds
import comfy.model_management
import torch
from torch import Tensor

from ..networks import marks
from . import cpu

SHARE = 16  # of the memory that is free on the device, what one batch of prompts may keep is the part


class Joined(NamedTuple):
    """Texts in one tensor, under the weights that a model had."""

    texts: list[weakref.ref[Tensor]]
    weights: Any
    states: Tensor

    def is_of(self, texts: list[Tensor]) -> bool:
        return len(self.texts) == len(texts) and all(mine() is text for mine, text in zip(self.texts, texts))

    def can_return(self, weights: Any) -> bool:
        """Whether these texts may be joined again: they are there, and nothing has changed."""
        return (
            self.weights == weights and marks.is_known(self.states) and all(text() is not None for text in self.texts)
        )


class RunContext(comfy.conds.CONDCrossAttn):
    """Text embeddings (p, tokens, width) of a run, for a `model` of the host on a device."""

    def __init__(self, cond: Tensor, model: Any, device: torch.device):
        super().__init__(cond)
        self.model, self.device = weakref.ref(model), device  # what copies it in depth leaves the model out
        self._batches: dict[int, tuple[Tensor, RunContext]] = {}
        self._joined: list[Joined] = []

    def _copy_with(self, cond: Tensor) -> RunContext:
        return RunContext(cond, self.model(), self.device)

    def process_cond(self, batch_size: int, **kwargs) -> RunContext:
        """The text for a batch of latents: the same object for the same number."""
        text, batch = self._batches.get(batch_size, (None, self))
        if text is not self.cond:
            self._batches[batch_size] = self.cond, (batch := super().process_cond(batch_size, **kwargs))
        return batch

    def concat(self, others: list) -> Tensor:
        """This text and others in one tensor: the same object in each step, on the device where the host wants it.

        Where others are not of this kind, as those of other packages are, it is a new tensor, as the host's own.
        """
        if not all(type(other) is RunContext for other in others):
            return super().concat(others)
        weights = getattr(self.model(), "current_weight_patches_uuid", None)
        texts = [self.cond, *(other.cond for other in others)]
        for known in self._joined:
            if known.is_of(texts) and known.can_return(weights):
                return known.states
        joined = Joined(list(map(weakref.ref, texts)), weights, self._join(super().concat(others)))
        self._joined = [*(known for known in self._joined if known.can_return(weights)), joined]
        return joined.states

    def _join(self, states: Tensor) -> Tensor:
        model: Any = self.model()
        states = states.to(self.device, model.manual_cast_dtype or model.get_dtype())
        free = comfy.model_management.get_free_memory(self.device)
        room = marks.Room(int(free) // SHARE, cpu.kept_block(self.device))
        count = cpu.count_padding(self.device, states)
        with torch.inference_mode(False):
            placed = room.place(states)
            joined = states.clone() if placed is None or placed is states else placed
        return marks.keep(joined, count, room, whole=True)
