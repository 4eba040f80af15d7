"""Read torch files as plain weights, after looking at what their pickles would do to the memory and the stack.

torch's reader of plain weights runs no code of a file. But a few bytes can make it fill the memory or end the process:
a compressed pickle, an array of any number of zeros, tuples so deep that taking their hash overflows the stack.
Sources: Python's ``pickletools``; ``torch/_weights_only_unpickler.py`` for what it calls.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from torch import Tensor
from torch.types import Storage

from ..errors import BadFile

ZIP = b"PK\x03\x04"  # how torch's zipped pickles begin
DEPTH = 100  # dots in the name of a part; published files have few
SHARED = 4  # times a file's size that its tensors may take; a tied embedding lies in it once and counts twice
DEEPEST = 100  # tuples in tuples; torch's own are three deep
MORE_THAN_TENSORS = "is a pickle that holds more than tensors. It was not executed. Expected plain weights"
LEGACY_PICKLES = 5  # of a file that is not zipped: number, version, machine, content, names of the storages
TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")
SLICE, MARK = pickletools.stackslice, pickletools.markobject


@dataclass(frozen=True)
class Thing:
    """What an instruction of a pickle leaves on the stack, as far as it can be dangerous."""

    depth: int = 0  # how many tuples lie in each other in it
    text: int = 0  # characters of text in it
    name: str = ""  # of the function that it is


def read_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, str], Callable[[str, slice], Tensor]]:
    """The tensors, mapped where the file is zipped, no metadata, and a function that reads rows of one.

    Raises BadFile where the file is damaged, wants to run code, or holds more than plain tensors.
    """
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP)) == ZIP
    tensors = _load_plain(path)
    if not is_zip:  # nothing of it is mapped
        return tensors, {}, lambda key, rows: tensors[key][rows]
    return tensors, {}, lambda key, rows: _load_plain(path)[key][rows]


def _load_plain(path: Path) -> dict[str, Tensor]:
    try:
        danger = find_danger(path)
    except Exception as error:  # a damaged file is read as whatever it says
        raise BadFile(f"is a damaged torch file. Download it again. ({error!r})") from error
    if danger:
        raise BadFile(f"{danger}, or use the .safetensors file of the same model.")
    try:
        with path.open("rb") as file:
            misnamed = path.suffix == ".safetensors"  # torch goes by this name, and maps only what it opens itself
            mapped = file.read(len(ZIP)) == ZIP and not misnamed
            file.seek(0)
            content = torch.load(file if misnamed else path, map_location=_stay, weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise BadFile(
            "is a pickle that wants to run code or holds more than tensors. It was not executed. "
            "Expected plain weights. Use the .safetensors file of the same model."
        ) from error
    except Exception as error:
        raise BadFile(f"is a damaged torch file. Download it again. ({error})") from error
    if _is_dict(content) and _is_dict(content.get("state_dict")):
        content = content["state_dict"]
    content = [content] if isinstance(content, Tensor) else content  # an image prompt of IPAdapter_plus
    if _is_list(content):  # image prompts of diffusers
        content = {str(number): part for number, part in enumerate(content)}
    tensors = _flatten(content)
    if not tensors:
        raise BadFile("is a torch file without weights. Expected a dictionary of tensors.")
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise BadFile(
                f"is a torch file in which {key} is sparse, quantized or without values. Expected plain "
                "tensors. Use the .safetensors file of the same model."
            )
    check_size(sum(tensor.nbytes for tensor in tensors.values()), path)
    return tensors


def _stay(storage: Storage, location: str) -> Storage:
    """Torch's way to leave values in RAM, whatever device they were saved from."""
    return storage


def _is_dict(content: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(content, dict)


def _is_list(content: object) -> TypeGuard[list[Any]]:
    return isinstance(content, (list, tuple))


def _flatten(content: Any) -> dict[str, Tensor]:
    """The tensors of nested dictionaries, their keys joined by dots: IP-Adapter .bin files hold one per part.

    A dictionary that is in the file once and referred to often, perhaps by itself, is read once. One that lies too deep
    is left out: the names of so many parts would take far more memory than the file.
    """
    tensors: dict[str, Tensor] = {}
    parts: list[tuple[str, Any]] = [("", content)]
    seen: set[int] = set()
    for prefix, part in parts:
        if not _is_dict(part) or id(part) in seen or prefix.count(".") > DEPTH:
            continue
        seen.add(id(part))
        for key, value in part.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{key}"] = value
            elif isinstance(key, str):
                parts.append((f"{prefix}{key}.", value))
    return tensors


def check_size(needed: int, path: Path) -> None:
    """Check that tensors of `needed` bytes can be those of a file, which may repeat some.

    Raises BadFile where they are so many times larger that reading them is meant to fill the memory.
    """
    size = path.stat().st_size
    if needed > SHARED * size:
        raise BadFile(
            f"has {size:,} bytes, but its tensors would take {needed:,}. Expected a file that holds "
            "what its tensors take. Download it again from where the model was published."
        )


def find_danger(path: Path) -> str | None:
    """What is dangerous in a torch file, in words that follow its name; None where nothing is.

    Raises ValueError, OSError or another of zipfile's errors where the file is damaged.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            pickles = (_judge(file) for _ in range(LEGACY_PICKLES) if file.peek(1))
            return next(filter(None, pickles), None)
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > path.stat().st_size or any(member.compress_type for member in members):
            return "is a compressed archive. Expected a file as torch writes it, which is not compressed. Unpack it"
        for member in members:
            if member.filename.endswith(".pkl"):
                with file.open(member) as content:
                    if danger := _judge(content):
                        return danger
    return None


def _judge(file: IO[bytes]) -> str | None:
    """The same for the next pickle of an open file, which is read up to its end."""
    start, encoded = file.tell(), 0
    for code, taken, thing in _walk(file):
        if code.name == "REDUCE" and taken[0].name.endswith(" encode"):  # bytes, as older protocols write them
            encoded += taken[1].text
        if thing.name.endswith(" bytearray") or thing.depth > DEEPEST:
            return MORE_THAN_TENSORS
    # A text that stands in the file once can be made into bytes again and again, until they fill the memory.
    return MORE_THAN_TENSORS if encoded > file.tell() - start else None


def _walk(file: IO[bytes]) -> Iterator[tuple[pickletools.OpcodeInfo, list[Thing], Thing]]:
    """Each instruction of a pickle, what it takes from the stack, and what it leaves there."""
    stack: list[Thing | None] = []  # None is a mark
    memo: dict[Any, Thing | None] = {}
    for code, argument, _ in pickletools.genops(file):
        if code.name == "MARK":
            stack.append(None)
        elif code.name == "MEMOIZE" or code.name.endswith("PUT"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif code.name.endswith("GET"):
            stack.append(memo[argument])
        else:
            taken = _take(stack, code)
            inner = [thing for thing in taken if thing is not None]
            word = argument if isinstance(argument, str) else ""
            thing = Thing(
                depth=max((part.depth for part in inner), default=0) + code.name.startswith("TUPLE"),
                text=sum(part.text for part in inner)
                + (len(word) if code.name.endswith(("UNICODE", "UNICODE8", "STRING")) else 0),
                name=word if code.name == "GLOBAL" else "",
            )
            stack += [thing] * len(code.stack_after)
            yield code, inner, thing


def _take(stack: list[Thing | None], code: pickletools.OpcodeInfo) -> list[Thing | None]:
    """Take from the stack what an instruction takes, in its order: so many things, and perhaps all down to a mark."""
    taken: list[Thing | None] = []
    if SLICE in code.stack_before:
        while (inner := stack.pop()) is not None:
            taken.append(inner)
    taken += [stack.pop() for kind in code.stack_before if kind not in (SLICE, MARK)]
    return taken[::-1]
