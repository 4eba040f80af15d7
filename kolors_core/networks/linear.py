"""A linear layer in float32 on a CPU, by the quicker of torch's two libraries for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Whether torch has both of Intel's libraries. Where it has neither, as on ARM, its own choice stands.
BOTH = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
PLAIN = (Tensor, nn.Parameter)  # other classes of tensors bring products of their own


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``nn.functional.linear``: x (..., i), weight (o, i), bias (o,) -> (..., o).

    Torch multiplies float32 by MKL, which uses half the width of the vector registers where the processor is not
    Intel's: on an EPYC with AVX-512 oneDNN is quicker by 2.2 from 16 rows on. The operator is the one that torch's
    compiler emits; it has no gradient.
    """
    learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias))
    if BOTH and _is_plain(x) and _is_plain(weight) and not learns and not torch.compiler.is_compiling():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return nn.functional.linear(x, weight, bias)


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in PLAIN and tensor.is_cpu and tensor.dtype == torch.float32
