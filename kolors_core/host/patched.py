"""Weights of a MODEL as it would use them, wherever they are now."""

from __future__ import annotations

from collections.abc import Collection

import comfy.lora
import torch
from torch import Tensor


def patched_tensors(model, prefix: str, device, keys: Collection[str] | None = None) -> dict[str, Tensor]:
    """Tensors under `prefix` of a MODEL's state dict, in float32, with the LoRAs and merges that `model` has.

    keys: the whole names of those that are wanted, all by default.
    The host may hold them with the patches of another clone applied; its backups of the weights are used then.
    """
    weights = {}
    for key, ((weight, convert), *patches) in model.get_key_patches(prefix).items():
        if keys is not None and key not in keys:
            continue
        weight = convert(weight.to(device), inplace=False).to(torch.float32, copy=True)
        weights[key.removeprefix(prefix)] = comfy.lora.calculate_weight(patches, weight, key)
    return weights
