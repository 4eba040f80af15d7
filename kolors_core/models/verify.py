"""Whether a file is whole: by its hash where one is known, else by its structure. Nothing in it is executed.

Sources: the descriptions of safetensors and of ZIP; ``zipfile`` for what it reads of an archive.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import shorten
from ..files.header import (
    METADATA,
    SAFETENSORS,
    SMALLEST,
    UNKNOWN,
    HeaderTooLongError,
    describe_signature,
    read_head,
    read_header,
    read_index,
)

CHUNK = 1 << 22  # bytes that are hashed at a time
HEADER = 16_000_000  # bytes of the longest header or index that is read; those of published models have 300,000
LISTING = 64_000_000  # bytes of the longest list of an archive's contents that is read
MESSAGE = 1000  # bytes of the longest text that a server sent instead of a file
LOCAL = 30  # bytes of what stands before each member of a ZIP archive, without its name
ONNX = b"\x08"
#: What reading a damaged header raises.
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, struct.error)


def hash_of(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The sha256 of a file in hex. advance: is told how many bytes more are done."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            if advance:
                advance(len(chunk))
    return digest.hexdigest()


def find_fault(
    path: Path, size: int | None = None, sha256: str | None = None, advance: Callable[[int], None] | None = None
) -> str | None:
    """What is wrong with a file, as the rest of a sentence that begins with its name; None where it is whole.

    size: bytes, and sha256: as published, where they are known; without a hash the file's structure decides.
    """
    try:
        return _find_fault(path, size, sha256, advance)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _find_fault(path: Path, size: int | None, sha256: str | None, advance: Callable[[int], None] | None) -> str | None:
    if path.is_symlink() and not path.exists():
        return "is a link to a file that is not there"
    found = path.stat().st_size
    if not path.is_file():
        return "is not a file"
    if not found:
        return "is empty (0 bytes)"
    with path.open("rb"):  # what may not be read says so here
        head = read_head(path)
    if wrong := find_wrong_kind(head, found):
        return wrong
    if size is not None and found != size:
        return cut_short(found, size) if found < size else f"is too long: {found:,} bytes instead of {size:,}"
    if sha256 is None:
        return find_damage(path, head)
    other = hash_of(path, advance)
    return None if other == sha256 else find_damage(path, head) or other_content(other, sha256)


def cut_short(found: int, size: int) -> str:
    return f"is cut short: {found:,} of {size:,} bytes"


def other_content(found: str, expected: str) -> str:
    return f"has another content than published (sha256 {found[:12]}... instead of {expected[:12]}...)"


def find_wrong_kind(head: bytes, size: int) -> str | None:
    """What a file is that a download saved in the place of a model; None where it may be one."""
    kind = describe_signature(head)
    if kind != UNKNOWN and not head.startswith(b"GGUF"):
        return f"is {kind}"
    try:
        text = head.decode().strip() if size <= MESSAGE else ""
    except UnicodeDecodeError:
        return None
    if not text or not text.isprintable() or text.startswith("{"):
        return None
    return f'is a text: "{text if len(text) <= 60 else text[:57] + "..."}"'


def find_damage(path: Path, head: bytes) -> str | None:
    """What is wrong with the structure of a file that begins with `head`."""
    size = path.stat().st_size
    if path.suffix == ".json":
        return _find_missing_shard(path)
    if size < SMALLEST:
        return f"is too short to be a model ({size} bytes)"
    if SAFETENSORS.match(head):
        return _find_damage_by_header(path, size)
    if head.startswith(b"PK\x03\x04"):
        return _find_damage_of_archive(path)
    begins_right = head.startswith((b"GGUF", b"\x80")) or (path.suffix == ".onnx" and head.startswith(ONNX))
    return None if begins_right else f"is {UNKNOWN}"


def _find_damage_by_header(path: Path, size: int) -> str | None:
    try:
        header, start = read_header(path, HEADER)
        entries = [entry for key, entry in header.items() if key != METADATA]
        end = start + max((_end(entry) for entry in entries), default=0)
    except HeaderTooLongError as error:
        return f"is cut short or damaged: {size:,} bytes, and a header of {error}"
    except DAMAGED:
        return "is damaged: its header cannot be read"
    if not entries:
        return "is damaged: it holds no tensors"
    if end > size:
        return cut_short(size, end)
    return f"is too long: {size:,} bytes instead of {end:,}" if end < size else None


def _end(entry: dict[str, Any]) -> int:
    """Where the values of a tensor end. Raises one of DAMAGED where that is no place."""
    first, end = entry["data_offsets"]
    if not 0 <= int(first) <= int(end):
        raise ValueError(first)
    return end


class _Archive(io.FileIO):
    """A file of which nobody reads more at a time than the list of contents of an archive may have."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > LISTING:
            raise zipfile.BadZipFile
        return super().read(size)


def _find_damage_of_archive(path: Path) -> str | None:
    try:
        with _Archive(path) as file, zipfile.ZipFile(file) as archive:
            members, end = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, *DAMAGED):
        return "is cut short or damaged: the list of its contents, which comes last, cannot be read"
    if not any(member.filename.rpartition("/")[2] == "data.pkl" for member in members):
        return "is a ZIP archive without a model in it"
    if any(member.header_offset + LOCAL + member.compress_size > end for member in members):
        return "is damaged: parts of its contents lie outside of it"
    return None


def _find_missing_shard(path: Path) -> str | None:
    names = read_index(path)
    if not names:
        return "is not the index of a model"
    files = sorted(set(names.values()))
    missing = [name for name in files if not path.with_name(name).is_file()]
    return f"lacks {len(missing)} of its {len(files)} files: {shorten(missing)}" if missing else None
