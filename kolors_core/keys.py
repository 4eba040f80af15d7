"""The names of tensors in a state dict: what stands before them, and the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def strip_prefix(state_dict: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """The entries under `prefix`, without it."""
    return {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}


def find_prefix(keys: Iterable[str], suffix: str) -> str | None:
    """What stands before `suffix` in the first key that ends with it as a whole name; None where none does."""
    for key in keys:
        if key == suffix or key.endswith("." + suffix):
            return key[: -len(suffix)]
    return None


def count_indices(keys: Iterable[str], prefix: str) -> int:
    """Number of distinct N among keys of the form ``<prefix>N.``"""
    return len({key[len(prefix) :].split(".", 1)[0] for key in keys if key.startswith(prefix)})
