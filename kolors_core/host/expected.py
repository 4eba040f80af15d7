"""What a file must hold: the tensors of a network by name and shape, before there is memory for it.

The network is built of torch's own layers on the meta device. The host's layers may have no tensors until they are
loaded (dynamic VRAM), so a network of them is no list of what is missing.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def _plain(kind: type[nn.Module]) -> type[nn.Module]:
    """A layer of torch that leaves its tensors as they are made, for on the meta device there is nothing to draw."""
    return type(kind.__name__, (kind,), {"reset_parameters": lambda self: None})


class Plain:
    """Torch's layers in the place of the host's operations."""

    Linear = _plain(nn.Linear)
    Conv2d = _plain(nn.Conv2d)
    Conv3d = _plain(nn.Conv3d)
    Embedding = _plain(nn.Embedding)
    LayerNorm = _plain(nn.LayerNorm)
    GroupNorm = _plain(nn.GroupNorm)
    RMSNorm = _plain(nn.RMSNorm)

    @classmethod
    def conv_nd(cls, dims: int, *args, **kwargs) -> nn.Module:
        return {2: cls.Conv2d, 3: cls.Conv3d}[dims](*args, **kwargs)


def expected_tensors(network: Callable[..., nn.Module], *args, operations=Plain, **options) -> dict[str, Tensor]:
    """The tensors of ``network(*args, device="meta", operations=operations, **options)`` by name, without memory.

    operations: torch's layers, or some of a kind that torch has not.
    """
    return network(*args, device="meta", operations=operations, **options).state_dict()
