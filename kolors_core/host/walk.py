"""What may hold weights in and below a folder; each folder is read again only when it has changed, and so each file."""

from __future__ import annotations

import functools
import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple, TypeVar

import folder_paths

from ..files.header import INDEX, read_index
from ..files.kinds import describe_state, find_kinds

SKIPPED = ".git"
Result = TypeVar("Result")
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
        return self.find_kinds() or frozenset()

    def find_kinds(self) -> frozenset[str] | None:
        """The same; None where that cannot be told, or not yet."""
        known = KINDS.get(self.path)
        if known is None and self.files == (self.path,):  # saves a look at the file's state
            content = find_kinds(self.path)
            known = content.state, content.kinds
        else:
            try:
                state = tuple(part for file in self.files for part in describe_state(os.stat(file)))
            except OSError:
                return None
            if known is None or known[0] != state:
                known = state, find_kinds(self.path).kinds
        KINDS[self.path] = known
        return known[1]


@dataclass
class Folder:
    """What is directly in a folder: folders with whether they are links, files, and which of these are candidates.

    reals: the real paths of the candidates. hopeful: those that are looked at for each list, because they hold Kolors'
    models, cannot be told yet, or are links. A file of another model is looked at again when the folder changes, as it
    does when the file is replaced.
    """

    real: str
    folders: tuple[tuple[str, bool], ...] = ()
    entries: tuple[os.DirEntry[str], ...] = ()  # of the files

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(entry.path for entry in self.entries)

    @functools.cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(_find_candidates(self.entries, self.real))

    @functools.cached_property
    def hopeful(self) -> tuple[Candidate, ...]:
        return self.candidates

    @functools.cached_property
    def reals(self) -> frozenset[str]:
        return frozenset(file.real for file in self.candidates)

    @functools.cached_property
    def has_links(self) -> bool:
        return any(entry.is_symlink() for entry in self.entries)

    def find_models(self) -> Iterator[tuple[Candidate, frozenset[str]]]:
        """The candidates that hold Kolors' models, with the kinds of these."""
        judged = [(file, file.find_kinds()) for file in self.hopeful]
        self.hopeful = tuple(file for file, kinds in judged if kinds != frozenset() or file.is_link)
        yield from ((file, kinds) for file, kinds in judged if kinds)


#: By path: what a file or a folder was like when it was read, and what was in it.
KINDS: dict[str, tuple[tuple[int, ...], frozenset[str] | None]] = {}
FOLDERS: dict[str, tuple[tuple[int, int, int], Folder]] = {}


def once_per_request(function: Callable[..., Result]) -> Callable[..., Result]:
    """Call a function once for the same arguments while the host answers a request for the lists of all nodes."""

    @functools.wraps(function)
    def call(*arguments: Hashable) -> Result:
        key, cache = f"{__name__}.{function.__name__}", folder_paths.cache_helper
        known = cache.get(key)
        if known is None:
            cache.set(key, known := {})  # the host drops it after the request, and at once outside of one
        if arguments not in known:
            known[arguments] = function(*arguments)
        return known[arguments]

    return call


def search(path: str, seen: set[str] | None = None) -> Iterator[Folder]:
    """A folder and those below it, the nearest first, links to folders last; each real folder once.

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
        yield folder


@once_per_request
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
    files = tuple(entry for entry in entries if _is_file(entry))
    folders = [entry for entry in entries if _is_folder(entry)] if len(files) < len(entries) else []
    inner = tuple((entry.path, entry.is_symlink()) for entry in folders if entry.name != SKIPPED)
    folder = Folder(real, inner, files)
    if len(folders) + len(files) == len(entries) and abs(time.time_ns() - status.st_mtime_ns) > SETTLED:
        FOLDERS[path] = state, folder  # not with a link that leads nowhere: what it leads to may come
    return folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Of a link to itself the entry would not say so, but raise."""
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry[str]) -> bool:
    return os.path.isfile(entry) if entry.is_symlink() else entry.is_file()


def _find_candidates(entries: tuple[os.DirEntry[str], ...], real: str) -> Iterator[Candidate]:
    """The candidates among the files of a folder whose real path is given; shards only as their index."""
    indices = {entry.name: set(read_index(Path(entry.path)).values()) for entry in entries if _is_index(entry.name)}
    shards = {shard for names in indices.values() for shard in names}
    beside = os.path.join(real, "")
    for entry in entries:
        name, path = entry.name, entry.path
        if name not in shards and is_weight_name(name):
            is_link = entry.is_symlink()
            own = (
                [os.path.join(os.path.dirname(path), shard) for shard in sorted(indices[name])]
                if name in indices
                else ()
            )
            yield Candidate(path, os.path.realpath(path) if is_link else beside + name, is_link, (path, *own))


def is_weight_name(name: str) -> bool:
    """Whether a file of this name may hold weights, or list the files that do."""
    extension = os.path.splitext(name)[1].lower()
    return extension in folder_paths.supported_pt_extensions or extension == ".gguf" or _is_index(name)


def _is_index(name: str) -> bool:
    return name.endswith(".json") and fnmatch(name, INDEX)
