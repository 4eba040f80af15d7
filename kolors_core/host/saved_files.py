"""Small files that a node saves in the output folder, and another lists and reads, there or in the input folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import folder_paths

from ..errors import KolorsError
from .model_files import describe_state


@dataclass(frozen=True)
class SavedFiles:
    """One kind of them.

    saver: title of the node that writes them. example: a prefix for one. suffixes: of those that are listed, as far as
    `is_one` finds their content to be of this kind.
    """

    saver: str
    example: str
    is_one: Callable[[Path], bool]
    suffixes: tuple[str, ...] = (".safetensors",)

    def next_path(self, prefix: str) -> Path:
        """A path in the output folder for one more file: ``<prefix>_00001_.safetensors``.

        Raises KolorsError where the prefix leads out of that folder.
        """
        output = folder_paths.get_output_directory()
        try:
            folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
        except Exception as error:  # the host's own refusal has no type
            raise KolorsError(
                f"The file name {prefix} leads out of {output} or cannot be a path. Expected a name, with folders if "
                f"you like, inside of it, such as {self.example}."
            ) from error
        return Path(folder) / f"{name}_{counter:05}_.safetensors"

    def names(self) -> list[str]:
        """Those of the input folder, and of the output folder with the host's mark for it."""
        names = []
        folders = (folder_paths.get_input_directory(), ""), (folder_paths.get_output_directory(), " [output]")
        for folder, mark in folders:
            files, _ = folder_paths.recursive_search(folder, [".git"]) if os.path.isdir(folder) else ([], {})
            ours = (file for file in files if file.endswith(self.suffixes) and self.is_one(Path(folder, file)))
            names += sorted(file + mark for file in ours)
        return names

    def find(self, name: str) -> Path:
        """The path behind one of `names`.

        Raises FileNotFoundError that says where it was looked for; so does a name that leads out of these folders.
        """
        given = PureWindowsPath(name)  # which knows both kinds of slashes, and drives
        leads_out = bool(given.anchor) or ".." in given.parts
        if leads_out or not folder_paths.exists_annotated_filepath(name):
            raise FileNotFoundError(
                f"{name} was not found in {folder_paths.get_input_directory()} or "
                f"{folder_paths.get_output_directory()}. Save one with '{self.saver}', or copy the file there."
            )
        return Path(folder_paths.get_annotated_filepath(name))

    def fingerprint(self, name: str) -> str:
        """Changes when the file behind one of `names` does: path, time of change and size."""
        return describe_state(name, lambda: self.find(name))
