"""Every file that Kolors can use, wherever it lies and whatever it is called; whether it is whole, and found there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..files.header import read_index
from . import catalog
from .catalog import ModelFile
from .contents import Contents, look_into
from .download import PART
from .folders import NODES, folders, models_folder, walk
from .match import (
    LLM,
    OURS,
    ROLES,
    SDXL,
    UNCLEAR,
    find_named,
    find_pointed,
    fits,
    has_size,
    is_near,
    kind_of,
    name_to_get,
    role_of,
    roles_of,
)
from .verify import find_fault, hash_of, other_content

SHARD_LIST = "pytorch_model.bin.index.json"  # of the published shards
LISTED = (".safetensors", ".sft", ".bin", ".pt", ".pt2", ".pth", ".ckpt", ".pkl")  # endings that ComfyUI lists
WEIGHTS = (*LISTED, ".gguf", ".onnx")
ANOTHER = "is not the published file, but may be another version of it."
OTHERS = ("a UNet", "a checkpoint", "a CLIP text", "a T5")  # how the words for other models begin
#: Names of kinds as users see them: the folders below models/.
FOLDERS = {"diffusion_models": "diffusion_models, unet", "text_encoders": "text_encoders, clip"}


@dataclass
class Found:
    """A file, or the shards of one.

    roles: what it serves as, by the names of the catalog; "controlnet" where its kind is not known. name: what the
    command `get` calls a file to take instead. fault, misplaced, note: sentences without "It"; empty where all is well.
    is_other: it is whole, but another model than its name says.
    """

    path: Path
    shown: str
    kinds: frozenset[str]
    size: int
    roles: tuple[str, ...] = ()
    name: str = ""
    fault: str = ""
    misplaced: str = ""
    note: str = ""
    has_tokenizer: bool = False
    is_other: bool = False

    @property
    def usable(self) -> bool:
        return not (self.fault or self.misplaced)


@dataclass
class Scanner:
    """One look at all folders. show: is told the name, the size and the bytes done of a file that is being hashed."""

    root: Path
    quick: bool
    show: Callable[[str, int, int], None]
    notes: list[str] = field(default_factory=list)

    def run(self) -> list[Found]:
        files = self._list()
        found, shards = list[Found](), set[Path]()
        for path, kinds in files.items():
            if path.suffix == ".json" and look_into(path).roles:
                found.append(self._judge_shards(path, kinds))
                shards |= {path.with_name(name) for name in read_index(path).values()}
        found += self._find_lone_shards({path: kinds for path, kinds in files.items() if path not in shards})
        for path, kinds in files.items():
            if path in shards:
                continue
            if path.name == catalog.TOKENIZER.file or _size(path) == catalog.TOKENIZER.size:
                found.append(self._judge_tokenizer(path, kinds))
            elif NODES not in kinds and (each := self._judge(path, kinds)):
                found.append(each)
        return sorted(found, key=lambda each: each.shown)

    def _list(self) -> dict[Path, frozenset[str]]:
        """Every file by its shortest path, with the kinds of all folders that lead to it."""
        paths: dict[str, list[Path]] = {}
        kinds: dict[str, set[str]] = {}
        places = folders(self.root, self.notes)
        tokenizers = [
            path
            for folder in places.pop(NODES)
            for path in folder.glob(f"*/configs/tokenizer/{catalog.TOKENIZER.file}")
        ]
        listed = [(kind, path) for kind, each in places.items() for folder in each for path in walk(folder)]
        for kind, path in (*listed, *((NODES, path) for path in tokenizers)):
            real = os.path.realpath(path)
            paths.setdefault(real, []).append(path)
            kinds.setdefault(real, set()).add(LLM if self._is_llm(path) else kind)
        for path in walk(models_folder(self.root)):
            paths.setdefault(os.path.realpath(path), []).append(path)
        shortest = {real: min(each, key=lambda path: (len(path.parts), path)) for real, each in paths.items()}
        return {path: frozenset(kinds.get(real, ())) for real, path in shortest.items()}

    def _is_llm(self, path: Path) -> bool:
        return path.is_relative_to(models_folder(self.root) / LLM)

    def shown(self, path: Path) -> str:
        """A path, below models/ or below ComfyUI where it lies there."""
        for folder in (models_folder(self.root), self.root):
            if path.is_relative_to(folder):
                path = path.relative_to(folder)
                break
        return printable(path.as_posix())

    def _found(self, path: Path, kinds: frozenset[str]) -> Found:
        return Found(path, self.shown(path), kinds, _size(path))

    def _judge_tokenizer(self, path: Path, kinds: frozenset[str]) -> Found:
        found, published = self._found(path, kinds), catalog.TOKENIZER
        found.roles, found.name = ("tokenizer",), "tokenizer"
        found.fault = find_fault(path, published.size, published.sha256) or ""
        if path.name != published.file and not found.fault:
            found.misplaced = f"is called {path.name}. Rename it to {published.file}."
        return found

    def _judge_shards(self, index: Path, kinds: frozenset[str]) -> Found:
        found = self._found(index, kinds)
        found.roles, found.name = ("encoder",), "encoder"
        found.fault = find_fault(index) or ""
        parts = [index.with_name(name) for name in sorted(set(read_index(index).values()))]
        found.size = sum(map(_size, parts))
        known = {file.file: file for file in catalog.SHARDS}
        bad = [f"{part.name} {fault}" for part in parts if not found.fault and (fault := find_fault(part))]
        found.fault = found.fault or (f"has a damaged shard: {bad[0]}" if bad else "")
        comparable = [part for part in parts if part.name in known and not self.quick and not found.fault]
        try:
            others = sum(self._hash(part) != known[part.name].sha256 for part in comparable)
        except OSError as error:
            others, found.fault = 0, f"cannot be read: {error.strerror or error}"
        if others == len(parts):
            found.note = "is not the published one, but may be another ChatGLM3."
        elif others:
            found.fault = f"has {others} of {len(parts)} shards with another content than published"
        self._place(found)
        return found

    def _find_lone_shards(self, files: dict[Path, frozenset[str]]) -> list[Found]:
        """The first published shard of each folder where the index is missing, without which no loader takes them."""
        first: dict[Path, Found] = {}
        sizes = {file.file: file.size for file in catalog.SHARDS}
        for path, kinds in sorted(files.items()):
            if path.name in sizes and _size(path) == sizes[path.name]:
                first.setdefault(path.parent, self._found(path, kinds))
        for found in first.values():
            found.roles, found.name = ("encoder",), "encoder"
            found.fault = f"lacks {SHARD_LIST} beside it, which is in text_encoder of {catalog.SHARDS[0].repo}"
        return list(first.values())

    def _hash(self, path: Path) -> str:
        done, size, name = 0, _size(path), self.shown(path)

        def advance(more: int) -> None:
            nonlocal done
            done += more
            self.show(name, size, done)

        return hash_of(path, advance)

    def _judge(self, path: Path, kinds: frozenset[str]) -> Found | None:
        """What a file is and whether it is whole; None where it is nothing of Kolors."""
        found = self._found(path, kinds)
        unfinished = path.suffix == PART
        named = find_named(path.stem if unfinished else path.name, path, found.shown) or find_pointed(path)
        if named and unfinished:
            found.roles, found.name, found.fault = (role_of(named.name),), named.name, "is not finished"
            return found
        contents = look_into(path)
        near = [file for file in catalog.FILES if is_near(file, found.size, kinds, contents)]
        if path.suffix not in WEIGHTS and not named and not near:
            return None
        if path.suffix == ".onnx" and "antelopev2" not in found.shown:  # insightface's other models share some files
            return None
        found.has_tokenizer = contents.tokenizer and "encoder" in contents.roles
        size = named.size if named and named.exact and not contents.text else None  # nothing inside tells it
        found.fault = find_fault(path, size) or ""
        if named and not found.fault and not fits(named, contents):
            found.roles, found.name, found.is_other = (role_of(named.name),), named.name, True
            found.fault = f"is {_shorten(contents.text)}, not {ROLES[kind_of(named.name)][2]}"
            return found
        expected = list(dict.fromkeys(filter(None, (named, *near))))
        file = named if found.fault else self._find_published(found, expected, named)
        found.roles = (role_of(file.name),) if file and not contents.roles else roles_of(found.shown, contents, file)
        found.name = name_to_get(file, found.roles, contents)
        if not found.roles:
            return _judge_other_model(found, contents)
        if found.roles == UNCLEAR:
            return None if found.fault or "vae" not in kinds else found
        if contents.storage == "fp32" and not found.fault:
            found.note = found.note or "is in fp32, which takes twice the memory of fp16."
        self._place(found)
        return found

    def _find_published(self, found: Found, expected: list[ModelFile], named: ModelFile | None) -> ModelFile | None:
        """Which of the files that it may be a whole one is; its fault or note is set where its hash is another."""
        hashes = {each.sha256: each for each in expected if each.sha256}
        if self.quick or not hashes:
            kinds = {role_of(each.name) for each in expected}
            return named or (expected[0] if len(kinds) == 1 else None)
        try:
            digest = self._hash(found.path)
        except OSError as error:
            found.fault = f"cannot be read: {error.strerror or error}"
            return named
        if digest in hashes:
            return hashes[digest]
        if named and named.sha256 and has_size(named, found.size):
            found.fault = other_content(digest, named.sha256)
        else:
            found.note = ANOTHER
        return named

    def _place(self, found: Found) -> None:
        """Say what is wrong with the place or the name of a file that is what it should be."""
        role = kind_of(found.roles[0])
        right, loader, _ = ROLES[role]
        if "unet" in found.roles and "encoder" in found.roles:
            right, loader = ("checkpoints",), "Load Kolors Checkpoint"
        file = catalog.BY_NAME.get(found.name)
        folder = file.folder if file else right[0]
        if not found.kinds.intersection(right):
            names = ", ".join(FOLDERS.get(kind, kind) for kind in right)
            where = found.shown.rpartition("/")[0] or "models"
            verb = "Copy" if "diffusers" in found.kinds else "Move"  # other packages read such a folder as a whole
            lost = role == "vae" and not SDXL.search(found.path.name)
            target = f"{folder}/kolors-vae.safetensors" if lost else folder
            looks = f"{loader} looks in {names}"
            if role == "vae" and "diffusers" in found.kinds:
                looks = f"Load Kolors Checkpoint takes it with the rest of its folder, {loader} looks in {names} only"
            found.misplaced = f"lies in {where}; {looks}. {verb} it to models/{target}."
        elif role == "antelopev2" and file and not found.path.as_posix().endswith(f"/{file.place}"):
            found.misplaced = f"lies in {found.shown.rpartition('/')[0]}. Move it to models/{folder}."
        elif role != "antelopev2" and found.path.suffix not in (*LISTED, ".json", ".gguf"):
            ending = f"the ending {found.path.suffix}" if found.path.suffix else "no ending"
            name = file.file if file else f"{found.path.stem}.safetensors"
            found.misplaced = f"has {ending}, so that ComfyUI does not list it. Rename it to {name}."


def printable(text: str) -> str:
    """A text without what a terminal takes for a command."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _judge_other_model(found: Found, contents: Contents) -> Found | None:
    """A file that is called after Kolors or ChatGLM3 and is damaged or another model; None where it is neither."""
    if not OURS.search(found.shown) or found.path.suffix not in WEIGHTS:
        return None
    if not found.fault and contents.text.startswith(OTHERS):
        found.note = f"is {_shorten(contents.text)}, which Kolors cannot use."
    return found if found.fault or found.note else None


def _shorten(text: str) -> str:
    """What a file is, without its widths and key names."""
    return text.split(" with ")[0].split(" (")[0]
