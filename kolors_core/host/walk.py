"""What may hold weights in and below a folder; each folder is read again only when it has changed, and so each file."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import folder_paths

from ..files.header import INDEX, read_index
from ..files.kinds import find_kinds

SKIPPED = ".git"
SETTLED = 2 * 10**9  # ns; some file systems tell the time of a change in steps of so much


class Candidate(NamedTuple):
    """A weight file, or the index of one in shards.

    real: its path without links. files: its own path, or those of the index and all shards.
    """

    path: str
    real: str
    is_link: bool
    files: tuple[str, ...]

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of Kolors' models in it, none while a shard is missing; read again only when it has changed."""
        try:
            state = tuple((status.st_mtime_ns, status.st_size) for status in map(os.stat, self.files))
        except OSError:
            return frozenset()
        known = KINDS.get(self.path)
        if known is None or known[0] != state:
            known = KINDS[self.path] = state, find_kinds(Path(self.path))
        return known[1]


class Folder(NamedTuple):
    """What is directly in a folder: folders with whether they are links, files, and which of these are candidates."""

    real: str
    folders: tuple[tuple[str, bool], ...] = ()
    files: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()


#: By path: what a file or a folder was like when it was read, and what was in it.
KINDS: dict[str, tuple[tuple[tuple[int, int], ...], frozenset[str]]] = {}
FOLDERS: dict[str, tuple[tuple[int, int, int], Folder]] = {}


def search(path: str, seen: set[str] | None = None) -> Iterator[Candidate]:
    """The candidates below a folder, the nearest first, links to folders last; each real folder once.

    seen: real paths of folders that were visited before.
    """
    seen = set() if seen is None else seen
    waiting, linked = deque([path]), deque[str]()
    while waiting or linked:
        folder = read_folder((waiting or linked).popleft())
        if folder.real in seen:
            continue
        seen.add(folder.real)
        for inner, is_link in folder.folders:
            (linked if is_link else waiting).append(inner)
        yield from folder.candidates


def read_folder(path: str) -> Folder:
    """What is directly in a folder, by name; nothing where it is not there or cannot be read."""
    try:
        status = os.stat(path)
        state = status.st_mtime_ns, status.st_ino, status.st_dev
        known = FOLDERS.get(path)
        if known is not None and known[0] == state:
            return known[1]
        with os.scandir(path) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError:
        return Folder(os.path.realpath(path))
    real = os.path.realpath(path)
    folders = [entry for entry in entries if _is_folder(entry)]
    files = [entry for entry in entries if _is_file(entry)]
    inner = tuple((entry.path, entry.is_symlink()) for entry in folders if entry.name != SKIPPED)
    folder = Folder(real, inner, tuple(entry.path for entry in files), tuple(_find_candidates(files, real)))
    if len(folders) + len(files) == len(entries) and abs(time.time_ns() - status.st_mtime_ns) > SETTLED:
        FOLDERS[path] = state, folder  # not with a link that leads nowhere: what it leads to may come
    return folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Of a link to itself the entry would not say so, but raise."""
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry[str]) -> bool:
    return os.path.isfile(entry) if entry.is_symlink() else entry.is_file()


def _find_candidates(entries: list[os.DirEntry[str]], real: str) -> Iterator[Candidate]:
    """The candidates among the files of a folder whose real path is given; shards only as their index."""
    indices = {entry.name: set(read_index(Path(entry.path)).values()) for entry in entries if _is_index(entry.name)}
    shards = {shard for names in indices.values() for shard in names}
    for entry in entries:
        name, path = entry.name, entry.path
        if name not in shards and is_weight_name(name):
            place = os.path.realpath(path) if entry.is_symlink() else os.path.join(real, name)
            own = [os.path.join(os.path.dirname(path), shard) for shard in sorted(indices.get(name, ()))]
            yield Candidate(path, place, entry.is_symlink(), (path, *own))


def is_weight_name(name: str) -> bool:
    """Whether a file of this name may hold weights, or list the files that do."""
    extension = os.path.splitext(name)[1].lower()
    return extension in folder_paths.supported_pt_extensions or extension == ".gguf" or _is_index(name)


def _is_index(name: str) -> bool:
    return name.endswith(".json") and fnmatch(name, INDEX)
