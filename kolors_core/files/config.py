"""Configurations in JSON: inside a weight file, or beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import KolorsError, locate


def read_config(path: str | Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The model's JSON configuration: ``config`` in the metadata, else ``<stem>.json`` or ``config.json`` beside it.

    Empty where there is none. Raises KolorsError where it is no JSON object.
    """
    path = Path(path)
    if "config" in metadata:
        return _parse(metadata["config"], f"the metadata of {locate(path)}")
    for candidate in (path.with_suffix(".json"), path.with_name("config.json")):
        if candidate.is_file():
            return read_json(candidate)
    return {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file. Raises KolorsError where it holds something else."""
    return _parse(path.read_text(encoding="utf-8", errors="replace"), locate(path))


def _is_object(content: object) -> TypeGuard[dict[str, Any]]:
    """Whether what was read as JSON is an object, whose names are texts."""
    return isinstance(content, dict)


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KolorsError(
            f"The configuration in {source} is not valid JSON ({error}). Correct it or delete it."
        ) from error
    if not _is_object(config):
        raise KolorsError(f"The configuration in {source} is a {type(config).__name__}. Expected a JSON object.")
    return config
