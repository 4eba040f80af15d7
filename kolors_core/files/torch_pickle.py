"""What a torch file would do to the memory and the stack, told from its pickle without running it.

torch's reader of plain weights runs no code of a file. But a few bytes can make it fill the memory or end the process:
a compressed pickle, an array of any number of zeros, tuples so deep that taking their hash overflows the stack.
Sources: Python's ``pickletools``; ``torch/_weights_only_unpickler.py`` for what it calls.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

#: What the reader calls though weights never ask for it: its result may be far larger than what asks for it.
FILLERS = ("bytearray", "encode")
DEEPEST = 100  # tuples in tuples; torch's own are three deep
LEGACY_PICKLES = 5  # of a file that is not zipped: number, version, machine, content, names of the storages
SLICE, MARK = pickletools.stackslice, pickletools.markobject


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


def _judge(file: BinaryIO) -> str | None:
    """The same for the next pickle of an open file, which is read up to its end."""
    for name, depth in _walk(file):
        if name.rpartition(" ")[2] in FILLERS or depth > DEEPEST:
            return "is a pickle that holds more than tensors. It was not executed. Expected plain weights"
    return None


def _walk(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """The name that each instruction of a pickle asks for, and how many tuples lie in each other in what it makes."""
    stack: list[int | None] = []  # depths, and None for a mark
    memo: dict[Any, int | None] = {}
    for code, argument, _ in pickletools.genops(file):
        if code.name == "MARK":
            stack.append(None)
        elif code.name == "MEMOIZE" or code.name.endswith("PUT"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif code.name.endswith("GET"):
            stack.append(memo[argument])
        else:
            taken = _take(stack, code)
            depth = max((inner or 0 for inner in taken), default=0) + code.name.startswith("TUPLE")
            stack += [depth] * len(code.stack_after)
            yield (argument if code.name == "GLOBAL" else ""), depth


def _take(stack: list[int | None], code: pickletools.OpcodeInfo) -> list[int | None]:
    """Take from the stack what an instruction takes: so many things, and perhaps all down to the last mark."""
    taken = []
    if SLICE in code.stack_before:
        while (inner := stack.pop()) is not None:
            taken.append(inner)
    return taken + [stack.pop() for kind in code.stack_before if kind not in (SLICE, MARK)]
