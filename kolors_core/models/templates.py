"""Which model files the package's workflow templates need, by the names of the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from . import catalog
from .folders import PACKAGE

WORKFLOWS = PACKAGE / "workflows"
BASE = "text-to-image"


def groups() -> dict[tuple[str, ...], list[str]]:
    """The templates that need the same files, by these files; text to image first."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in sorted(WORKFLOWS.glob("*.json")):
        if needed := needed_by(json.loads(path.read_text(encoding="utf-8"))):
            found.setdefault(needed, []).append(path.stem)
    return dict(sorted(found.items(), key=lambda item: (set(item[0]) != set(catalog.FEATURES[BASE]), item[1])))


def needed_by(workflow: Any) -> tuple[str, ...]:
    """The files that a workflow names, in the catalog's order, with those that belong to them."""
    names = {name for model in _models(workflow) if (name := name_of(model))}
    if "faceid-plus" in names:  # the face models are no files that a template lists
        names |= set(catalog.FEATURES["faceid"])
    if "encoder" in names:
        names.add("tokenizer")
    return tuple(file.name for file in catalog.FILES if file.name in names)


def _models(part: Any) -> Iterator[dict[str, str]]:
    """What `models` lists in the properties of nodes, in subgraphs as well."""
    if isinstance(part, dict):
        yield from part.get("models") or ()
        part = [value for key, value in part.items() if key != "models"]
    if isinstance(part, list):
        for each in part:
            yield from _models(each)


def name_of(model: dict[str, str]) -> str | None:
    """The name in the catalog of a model that a workflow lists; every precision of the encoder is the encoder."""
    folder = [file for file in catalog.FILES if file.folder == model.get("directory") and file.name != "tokenizer"]
    if model.get("directory") == "text_encoders":
        return "encoder"
    named = [file for file in folder if file.file == model.get("name")]
    from_repo = sorted((f for f in folder if f"/{f.repo}" in model.get("url", "")), key=lambda f: -len(f.repo))
    chosen = named or from_repo or (folder if len(folder) == 1 else [])
    return chosen[0].name if chosen else None


def shorten(names: Iterable[str]) -> list[str]:
    """The fewest names of features and files that stand for just these files, in their order."""
    names, short = list(names), dict[str, str]()
    for feature, files in catalog.FEATURES.items():
        if set(files) <= set(names) and len(files) > 1:
            short |= dict.fromkeys(files, feature)
    return list(dict.fromkeys(short.get(name, name) for name in names))


def title(needed: tuple[str, ...]) -> str:
    """What templates that need these files are about."""
    extras = [name for name in needed if name not in catalog.FEATURES[BASE]]
    alone = {files[0]: feature for feature, files in catalog.FEATURES.items() if len(files) == 1}
    lacking = [name for name in catalog.FEATURES[BASE] if name not in needed and name != "tokenizer"]
    whole = f"{BASE} without {', '.join(lacking)}" if lacking else BASE
    return " + ".join(alone.get(name, name) for name in shorten(extras)) or whole
