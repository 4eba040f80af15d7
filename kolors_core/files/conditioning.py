"""A prompt's CONDITIONING as a safetensors file, so that it can be used without the text encoder.

All padded rows of a Kolors prompt are equal, so one of them is stored with their number: a short prompt takes 0.4 MB
instead of 4. Tensors lie under ``<entry>.<name>``, everything else in the metadata as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import KolorsError, locate
from ..networks.padding import count_equal
from .header import read_head
from .safetensors import write_safetensors
from .weights import read_state_dict

FORMAT = "kolors-conditioning-1"
STATES = "states"
POOLED = "pooled_output"
OBJECTS = {POOLED, "control", "gligen", "hooks", "mask", "model_conds"}  # what the sampler takes for no plain value
MAX_ROWS = 1 << 16  # padded ones of an entry; more than any prompt has
MAX_VALUES = 1 << 28  # the same of all entries, 1 GB
Conditioning = list[list[Any]]  # [states (p, rows, hidden), {name: tensor or number or text}] per entry


def save_conditioning(path: Path, conditioning: Conditioning, dtype: torch.dtype | None = None) -> None:
    """Write `conditioning`; its tensors as they are, or in `dtype`. The file appears whole or not at all.

    Raises KolorsError where an entry holds what no file can: a ControlNet, a hook, another model.
    """
    tensors: dict[str, Tensor] = {}
    entries: list[dict[str, Any]] = []
    for index, (states, extra) in enumerate(conditioning):
        padding = _count_padding(states)
        tensors[f"{index}.{STATES}"] = states[:, max(0, padding - 1) :]
        plain: dict[str, Any] = {}
        for name, value in extra.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            elif isinstance(value, (str, int, float, bool, type(None), tuple, list)):
                plain[name] = value
            else:
                raise KolorsError(
                    f"This conditioning holds '{name}', a {type(value).__name__}, which a file cannot keep. Save "
                    "the prompt before ControlNets and hooks are applied to it."
                )
        entries.append({"padding": padding, "extra": plain})
    try:
        metadata = {"format": FORMAT, "entries": json.dumps(entries)}
    except (TypeError, ValueError) as error:
        raise KolorsError(f"This conditioning holds values that a file cannot keep ({error}).") from error
    write_safetensors(path, {key: tensor.to(dtype or tensor.dtype) for key, tensor in tensors.items()}, metadata)


def load_conditioning(path: str | Path) -> Conditioning:
    """Read what `save_conditioning` wrote, in float32 and in full length.

    Raises FileNotFoundError, or KolorsError where the file is another one or damaged.
    """
    tensors, metadata = read_state_dict(path)
    if metadata.get("format") != FORMAT:
        raise KolorsError(
            f"{locate(path)} holds no conditioning, but {len(tensors)} tensors of something else. "
            "Expected a file of 'Save Kolors Conditioning'."
        )
    try:
        entries = json.loads(metadata["entries"])
        padding = [max(0, int(entry["padding"])) for entry in entries]
        values = sum(count * tensors[f"{i}.{STATES}"][:, :1].numel() for i, count in enumerate(padding))
        if max(padding, default=0) > MAX_ROWS or values > MAX_VALUES:
            raise ValueError(f"{sum(padding):,} padded tokens")
        return [_entry(index, entry, tensors) for index, entry in enumerate(entries)]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, RecursionError) as error:
        raise KolorsError(f"{locate(path)} is a damaged conditioning file. Save it again. ({error!r})") from error


def is_conditioning(path: Path) -> bool:
    """Whether a file begins as `save_conditioning` writes it; only its first bytes are read."""
    return FORMAT.encode() in read_head(path)


def _entry(index: int, entry: dict[str, Any], tensors: dict[str, Tensor]) -> list[Any]:
    prefix = f"{index}."
    extra = {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    extra = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in extra.items()}
    states, padding = extra.pop(STATES), int(entry["padding"])
    if states.ndim != 3 or not states.is_floating_point():
        raise ValueError(f"states of {list(states.shape)} in {states.dtype}")
    pooled = extra.get(POOLED)
    if pooled is not None and pooled.ndim != 2:
        raise ValueError(f"a {POOLED} of {list(pooled.shape)}")
    if misplaced := OBJECTS & entry["extra"].keys():
        raise ValueError(f"{', '.join(sorted(misplaced))} as plain text")
    if empty := [name for name, tensor in {STATES: states, **extra}.items() if not tensor.numel()]:
        raise ValueError(f"no values in {', '.join(empty)}")
    if padding > 1:
        states = torch.cat((states[:, :1].expand(-1, padding - 1, -1), states), dim=1)
    return [states, extra | entry["extra"]]


def _count_padding(states: Tensor) -> int:
    """Number of leading tokens of (p, tokens, hidden) that equal the first one in every prompt; 0 where none does."""
    count = int(count_equal(states).min())
    return count if count > 1 else 0
