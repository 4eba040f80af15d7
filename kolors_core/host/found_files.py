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

import folder_paths

from ..files.kinds import CHECKPOINT, CONTROL_NET, ENCODER, IP_ADAPTER, UNET
from ..models.folders import PACKAGE
from .walk import Candidate, is_weight_name, read_folder, search

DIFFUSERS, LLM = "diffusers", "LLM"
PLACES = (LLM, DIFFUSERS, CHECKPOINT)
MINIATURE = "miniature"
MINIATURE_FOLDER = PACKAGE / "demo" / "models"
KINDS = (UNET, ENCODER, CONTROL_NET, IP_ADAPTER, CHECKPOINT)
UNET_PART = "unet"  # of a diffusers folder

# ---- listing


def list_found(kind: str) -> list[str]:
    """Names of the files of a kind outside the host's own folders of it, each file once; sorted.

    A name begins with the folder, as in ``diffusers/Kolors/unet/model.safetensors``; an encoder's in LLM does not.
    Of `checkpoints` also the diffusers folders that hold a UNet, as in ``diffusers/Kolors``. The miniature comes last,
    so that no node begins with it where there is another model.
    """
    found = {place: _models_in(place) for place in PLACES}
    taken = {file.real for folder in _folders_of(kind) for file in search(folder)} if any(found.values()) else set()
    names = {name for place, files in found.items() for name in _names(place, kind, files, taken)}
    return sorted(names) + sorted(_names(MINIATURE, kind, _models_in(MINIATURE), set()))


def _names(place: str, kind: str, files: list[tuple[str, Candidate]], taken: set[str]) -> Iterator[str]:
    """Names of the models of a kind among the files of a place, without those whose real paths are taken."""
    label = _label(place, kind)
    for name, file in files:
        if kind in file.kinds and file.real not in taken:
            taken.add(file.real)
            yield os.path.join(label, name)
    if kind == CHECKPOINT:
        yield from (os.path.normpath(os.path.join(label, folder)) for folder in _whole_folders(files))


def list_unlisted_encoders() -> set[str]:
    """What the host leaves out of its own folders of text encoders: indices of shards, and GGUF files."""
    files = [(folder, file.path) for folder in _folders_of(ENCODER) for file in search(folder)]
    return {os.path.relpath(path, folder) for folder, path in files if path.lower().endswith((".gguf", ".json"))}


def _whole_folders(files: list[tuple[str, Candidate]]) -> Iterator[str]:
    """Names of the diffusers folders whose UNet is among files, each once."""
    seen: set[str] = set()
    for name, file in files:
        folder, real = Path(name).parts[:-2], os.path.realpath(Path(file.path).parents[1])
        if Path(name).parts[-2:-1] == (UNET_PART,) and UNET in file.kinds and real not in seen:
            seen.add(real)
            yield os.path.join("", *folder)


def _models_in(place: str) -> list[tuple[str, Candidate]]:
    """Kolors' models in the folders of a place, with their names there; files before links to files."""
    seen: set[str] = set()
    found = [(folder, file) for folder in _folders_of(place) for file in search(folder, seen) if file.kinds]
    found.sort(key=lambda one: one[1].is_link)
    return [(os.path.relpath(file.path, folder), file) for folder, file in found]


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
