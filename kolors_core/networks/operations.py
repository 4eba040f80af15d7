"""What the networks are built of: torch's layers, or those of a host in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.types import Device

Dtype = torch.dtype | None  # None is torch's default


class Operations(Protocol):
    """A namespace of layers under torch's names, such as ``torch.nn``; only those that a network has need be there."""

    def Linear(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: Dtype = None, device: Device = None
    ) -> nn.Module: ...

    def Embedding(
        self, num_embeddings: int, embedding_dim: int, *, dtype: Dtype = None, device: Device = None
    ) -> nn.Module: ...

    def LayerNorm(self, normalized_shape: int, *, dtype: Dtype = None, device: Device = None) -> nn.Module: ...

    def RMSNorm(
        self, normalized_shape: int, *, eps: float, dtype: Dtype = None, device: Device = None
    ) -> nn.Module: ...


@dataclass(frozen=True)
class Builder:
    """Makes the layers of a network, in one dtype on one device."""

    operations: Operations
    dtype: Dtype
    device: Device

    def linear(self, inputs: int, outputs: int, bias: bool = False) -> nn.Module:
        return self.operations.Linear(inputs, outputs, bias=bias, dtype=self.dtype, device=self.device)

    def embedding(self, rows: int, width: int) -> nn.Module:
        return self.operations.Embedding(rows, width, dtype=self.dtype, device=self.device)

    def layer_norm(self, width: int) -> nn.Module:
        return self.operations.LayerNorm(width, dtype=self.dtype, device=self.device)

    def rms_norm(self, width: int, eps: float) -> nn.Module:
        return self.operations.RMSNorm(width, eps=eps, dtype=self.dtype, device=self.device)
