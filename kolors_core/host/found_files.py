"""Kolors' models in the folders of other packages: detected from their contents, and named after the folder.

Nothing is moved. `diffusers` has what KwaiKolorsWrapper and the hub download, `LLM` what Kolors-MZ and Easy-Use read,
`checkpoints` what people put there. The miniature, which comes with this package, is found in the package itself, so
that the lists of other nodes are as they are without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import folder_paths

from ..files.kinds import CHECKPOINT, CONTROL_NET, ENCODER, IP_ADAPTER, UNET
from ..models.folders import PACKAGE
from .walk import Candidate, is_weight_name, once_per_request, read_folder, search

DIFFUSERS, LLM = "diffusers", "LLM"
PLACES = (LLM, DIFFUSERS, CHECKPOINT)
MINIATURE = "miniature"
MINIATURE_FOLDER = PACKAGE / "demo" / "models"
KINDS = (UNET, ENCODER, CONTROL_NET, IP_ADAPTER, CHECKPOINT)
UNET_PART = "unet"  # of a diffusers folder


class Found(NamedTuple):
    """A file with Kolors' models, the kinds of these, and its name in its place."""

    name: str
    file: Candidate
    kinds: frozenset[str]


# ---- listing


def read_ahead() -> Thread:
    """Read in the background what the first lists after a start would have to read: every header in `PLACES`."""

    def read() -> None:
        for place in PLACES:
            _models_in(place)

    thread = Thread(target=read, name="kolors-lists", daemon=True)
    thread.start()
    return thread


def list_found(kind: str) -> list[str]:
    """Names of the files of a kind outside the host's own folders of it, each file once; sorted.

    A name begins with the folder, as in ``diffusers/Kolors/unet/model.safetensors``; an encoder's in LLM does not.
    Of `checkpoints` also the diffusers folders that hold a UNet, as in ``diffusers/Kolors``. The miniature comes last,
    so that no node begins with it where there is another model.
    """
    found = {place: _models_in(place) for place in PLACES}
    files = [one.file for models in found.values() for one in models if kind in one.kinds]
    taken = _find_own(kind, files) if files else set()
    names = {name for place, files in found.items() for name in _names(place, kind, files, taken)}
    return sorted(names) + sorted(_names(MINIATURE, kind, _models_in(MINIATURE), set()))


def _find_own(kind: str, files: list[Candidate]) -> set[str]:
    """Real paths of what is in the host's own folders of a kind; of all that are among the files, and of others."""
    beside = {os.path.dirname(file.real) for file in files}
    own = (folder for top in _folders_of(kind) for folder in search(top))
    return set().union(*(folder.reals for folder in own if folder.has_links or folder.real in beside))


def _names(place: str, kind: str, files: list[Found], taken: set[str]) -> Iterator[str]:
    """Names of the models of a kind among the files of a place, without those whose real paths are taken."""
    label = _label(place, kind)
    for name, file, kinds in files:
        if kind in kinds and file.real not in taken:
            taken.add(file.real)
            yield os.path.join(label, name)
    if kind == CHECKPOINT:
        yield from (os.path.normpath(os.path.join(label, folder)) for folder in _whole_folders(files))


def list_unlisted_encoders() -> set[str]:
    """What the host leaves out of its own folders of text encoders: indices of shards, and GGUF files."""
    tops = _folders_of(ENCODER)
    files = [(top, path) for top in tops for folder in search(top) for path in folder.files]
    unlisted = [(top, path) for top, path in files if path.lower().endswith((".gguf", ".json"))]
    return {os.path.relpath(path, top) for top, path in unlisted if is_weight_name(os.path.basename(path))}


def _whole_folders(files: list[Found]) -> Iterator[str]:
    """Names of the diffusers folders whose UNet is among files, each once."""
    seen: set[str] = set()
    for name, file, kinds in files:
        folder, real = Path(name).parts[:-2], os.path.realpath(Path(file.path).parents[1])
        if Path(name).parts[-2:-1] == (UNET_PART,) and UNET in kinds and real not in seen:
            seen.add(real)
            yield os.path.join("", *folder)


@once_per_request
def _models_in(place: str) -> list[Found]:
    """Kolors' models in the folders of a place; files before links to files."""
    seen: set[str] = set()
    found = [
        Found(os.path.relpath(file.path, top), file, kinds)
        for top in _folders_of(place)
        for folder in search(top, seen)
        for file, kinds in folder.find_models()
    ]
    return sorted(found, key=lambda one: one.file.is_link)


def _label(place: str, kind: str) -> str:
    return "" if place == MINIATURE or (place, kind) == (LLM, ENCODER) else place


def _folders_of(place: str) -> list[str]:
    """The folders of a place or of one of the host's kinds; those that hold others of them first."""
    if place == MINIATURE:
        return [str(MINIATURE_FOLDER)]
    known = folder_paths.folder_names_and_paths
    kinds = [name for name in known if name.lower() == place.lower()] if place == LLM else [place]
    folders = [folder for kind in kinds if kind in known for folder in folder_paths.get_folder_paths(kind)]
    if place == LLM:  # where MZ's loader and the Wrapper's look, installed or not
        folders += [os.path.join(folder_paths.models_dir, LLM, *inner) for inner in ((), ("checkpoints",))]
    folders = list(dict.fromkeys(os.path.abspath(folder) for folder in folders))
    real = {folder: Path(os.path.realpath(folder)) for folder in folders}
    return sorted(folders, key=lambda folder: sum(other in real[folder].parents for other in real.values()))


# ---- finding


def find(kind: str, name: str) -> str | None:
    """The path behind a name: of the host's own folders or of others, with the separators of any system."""
    parts = re.split(r"[/\\]", name)
    if any(part in ("", ".", "..") or os.path.splitdrive(part)[0] for part in parts):
        return None
    if path := folder_paths.get_full_path(kind, os.path.join(*parts)):
        return path
    for place in (*PLACES, MINIATURE):
        label = _label(place, kind)
        if label and parts[0] != label:
            continue
        for folder in _folders_of(place):
            path = os.path.join(folder, *parts[bool(label) :])
            if is_weight_name(path) and os.path.isfile(path):
                return path
            if kind == CHECKPOINT and find_part(path, UNET_PART):
                return path
    return None


def find_part(folder: str, part: str, kind: str = "") -> str | None:
    """The weights of a part of a diffusers folder; None where there are none.

    Safetensors before others, and half precision before full. Where no file is of the kind any other is taken, for its
    loader says what that is instead.
    """
    files = sorted(read_folder(os.path.join(folder, part)).candidates, key=_preference)
    return next((file.path for file in files if kind in file.kinds), files[0].path if files else None)


def _preference(file: Candidate) -> tuple[bool, bool, str]:
    name = os.path.basename(file.path)
    return ".safetensors" not in name, ".fp16" not in name, name


def files_behind(path: str) -> list[str]:
    """What a path stands for: the file; a sharded model's index and shards; the files of a diffusers folder's parts."""
    if os.path.isdir(path):
        parts = [read_folder(part) for part, _ in read_folder(path).folders]
        return [file for part in parts for file in part.files]
    beside = read_folder(os.path.dirname(path)).candidates
    return list(next((file.files for file in beside if file.path == path), (path,)))
