"""Where the user's model files are, by the names that the dropdowns show, and where a missing one can be had."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import folder_paths

from ..models.addresses import HOSTS
from ..models.catalog import BY_NAME
from ..models.folders import PACKAGE
from . import found_files

#: By kind, the files of the catalog that a message offers where one is missing.
OFFERED = {
    "diffusion_models": ("unet",),
    "text_encoders": ("encoder",),
    "ipadapter": ("ip-adapter-plus", "faceid-plus"),
    "controlnet": ("controlnet-canny", "controlnet-depth", "controlnet-pose"),
    "tokenizer": ("tokenizer",),
}


def where_to_get(kind: str) -> str:
    """A sentence that says where a kind of file can be had; empty for a kind that can be had anywhere."""
    files = [BY_NAME[name] for name in OFFERED.get(kind, ())]
    if not files:
        return ""
    wanted = " or ".join(f"{file.path} of {file.repo}" for file in files)
    return f"Get {wanted} ({HOSTS}), or run 'python -m kolors_core.models get {' '.join(OFFERED[kind])}' in {PACKAGE}."


def register() -> None:
    """Tell the host of models/ipadapter, which it does not know by itself."""
    folder_paths.add_model_folder_path("ipadapter", os.path.join(folder_paths.models_dir, "ipadapter"))


def list_files(kind: str) -> list[str]:
    """Names of the weight files of a kind, as the node's dropdown shows them: the host's own, then others' found."""
    names = folder_paths.get_filename_list(kind)
    if kind == "ipadapter":  # the host lists every file of a kind that it does not know by itself
        names = folder_paths.filter_files_extensions(names, folder_paths.supported_pt_extensions)
    if kind == "text_encoders":
        names = sorted({*names, *found_files.list_unlisted_encoders()})
    if kind in found_files.KINDS:
        names = list(dict.fromkeys([*names, *found_files.list_found(kind)]))
    return names


def resolve(kind: str, name: object) -> str:
    """The path behind a dropdown's name, or behind one that a dropdown had before.

    Raises FileNotFoundError that says where the file belongs and where to get it.
    """
    path = isinstance(name, str) and (folder_paths.get_full_path(kind, name) or found_files.find(kind, name))
    if not path:
        folders = "\n".join(map(str, folder_paths.get_folder_paths(kind)))
        raise FileNotFoundError(
            f"{name} was not found. Put it in one of these folders:\n{folders}\n{where_to_get(kind)}"
        )
    return path


def validate(kind: str, name: object) -> bool | str:
    """What a loader's VALIDATE_INPUTS returns for the name of a file: a name need not be in the list to have one.

    name: None where it comes from another node; the host itself refuses a list that is no link.
    """
    try:
        return name is None or isinstance(name, list) or bool(resolve(kind, name))
    except FileNotFoundError as error:
        return f"Value not in list: {error}"


def fingerprint(kind: str, name: object) -> str:
    """Changes when a file behind a name does: path, time of change and size of each."""
    try:
        files = found_files.files_behind(resolve(kind, name))
    except FileNotFoundError:
        return f"{name} missing"
    return "\n".join(describe_state(file, lambda file=file: file) for file in files)


def describe_state(name: str, find: Callable[[], str | Path]) -> str:
    """Changes when the file that `find` finds, or does not, changes: path, time of change and size."""
    try:
        path = find()
        status = os.stat(path)
    except OSError:
        return f"{name} missing"
    return f"{path} {status.st_mtime_ns} {status.st_size}"
