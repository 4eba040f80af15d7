"""What a file is by its first bytes, and what a safetensors file holds by its header; nothing else of it is read.

Source: the format's description in the repository of safetensors.
"""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

SAFETENSORS = re.compile(rb".{8}\{", re.DOTALL)  # how such a file begins: the length of the header, then the header
TORCH = re.compile(rb"PK\x03\x04|\x80")  # how a torch file begins
HEAD_BYTES = 4096  # the metadata comes first in the header of a safetensors file
READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe does not wait for ever
START_BYTES = 32_768  # as many headers have at most
LENGTH = 8  # bytes at the start of the file that tell the length of the header
LONGEST = 100_000_000  # bytes of a header, by the format
METADATA = "__metadata__"
INDEX = "*.index*.json"  # Hugging Face's lists of a model's shards: .index.json, or .index.fp16.json of a variant
LONGEST_INDEX = 16_000_000  # bytes of an index that is read at all; those of published models have 300,000
SMALLEST = 16  # bytes; a file with fewer holds nothing

#: First bytes of files that people put into a model folder by mistake, and what to say about each.
SIGNATURES = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"RIFF", "a WebP image or a sound"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer: the download fetched the placeholder instead of the file"),
    (b"<!doctype", "a web page: the download saved a login or error page instead of the file"),
    (b"<html", "a web page: the download saved a login or error page instead of the file"),
    (b"<?xml", "an XML page: the download saved an error message instead of the file"),
    (b"\x1f\x8b", "a gzip archive"),
)
UNKNOWN = "not a weight file"


class Shape(NamedTuple):
    """What a header says of a tensor, as far as it is needed to tell what the file is."""

    shape: tuple[int, ...]
    dtype: str = ""


def read_head(path: Path) -> bytes:
    """The first bytes of a file, which tell its kind; none where it is no file or cannot be read."""
    if not path.is_file():  # a pipe would wait for ever
        return b""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def read_start(file: int) -> bytes:
    """All bytes up to the values of the safetensors file behind a descriptor; of another file the first START_BYTES.

    Fewer where the header is longer than the file or than LONGEST. Raises OSError.
    """
    start = os.read(file, START_BYTES)
    if not SAFETENSORS.match(start):
        return start
    end = LENGTH + int.from_bytes(start[:LENGTH], "little")
    if end > len(start) and end <= min(os.fstat(file).st_size, LENGTH + LONGEST):
        while len(start) < end and (more := os.read(file, end - len(start))):
            start += more
    return start[:end]


def is_whole(start: bytes) -> bool:
    """Whether `read_start` gave the whole header of a safetensors file; of one that is being written it may not."""
    length = int.from_bytes(start[:LENGTH], "little")
    return len(start) == LENGTH + length and start.rstrip().endswith(b"}") and start.find(b"\0", LENGTH) < 0


def describe_signature(head: bytes) -> str:
    """Name a file kind by its first bytes."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:16].lower()  # as servers write their pages
    for signature, name in SIGNATURES:
        if head.startswith(signature) or (signature.startswith(b"<") and start.startswith(signature)):
            return name
    return UNKNOWN


def read_header(path: Path, longest: int = LONGEST) -> tuple[dict[str, Any], int]:
    """The header as it stands there, and where the values start, in bytes.

    longest: bytes of a header that is read at all.
    Raises HeaderTooLongError, or ValueError, struct.error or RecursionError where it cannot be read.
    """
    text = read_header_text(path, longest)
    return json.loads(text), LENGTH + len(text)


def read_header_text(path: Path, longest: int = LONGEST) -> bytes:
    """The JSON of the header, not parsed. Raises what `read_header` does."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(LENGTH))
        if LENGTH + length > os.fstat(file.fileno()).st_size:
            raise HeaderTooLongError(f"{length:,}")
        if length > longest:
            raise ValueError(f"its header of {length:,} bytes is longer than {longest:,}")
        return file.read(length)


class HeaderTooLongError(ValueError):
    """The header is longer than the file; the message is its length."""


def expected_size(path: Path) -> str:
    """What the header says of a damaged file's size, in words that follow "of n bytes"."""
    try:
        header, start = read_header(path)
        end = start + max(entry["data_offsets"][1] for key, entry in header.items() if key != METADATA)
    except HeaderTooLongError as error:
        return f", too short for its header of {error}"
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return ", with an unreadable header"
    return f"; its header asks for {end:,}" if end != path.stat().st_size else ""


def parse_shapes(text: bytes) -> dict[str, Shape]:
    """The tensors by the JSON of a header. Raises what `shapes_of` does, or ValueError."""
    return shapes_of(json.loads(text))


def shapes_of(header: dict[str, Any]) -> dict[str, Shape]:
    """The tensors of a header by key. Raises TypeError, KeyError or AttributeError where it is none."""
    return {key: Shape(tuple(entry["shape"]), str(entry["dtype"])) for key, entry in header.items() if key != METADATA}


def read_index(path: Path) -> dict[str, str]:
    """The name of the shard that each tensor is in, by key, by an index of Hugging Face; empty where it is none."""
    try:
        if path.stat().st_size > LONGEST_INDEX:
            return {}
        weight_map = json.loads(path.read_bytes())["weight_map"]
        names = {str(key): Path(name).name for key, name in weight_map.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError):
        return {}
    return {} if any(not name or "\0" in name for name in names.values()) else names
