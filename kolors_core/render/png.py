"""The graph in a PNG, in the place of what ComfyUI wrote there: the row's own, whole, and the same on every machine."""

from __future__ import annotations

import json
import struct
import zlib

from ..migrate.embedded import PNG
from .workflow import Graph

OURS = (b"prompt", b"workflow")


def put_graph(content: bytes, graph: Graph) -> bytes:
    """The same image with `graph` in the text that ComfyUI reads; what is no PNG, or damaged, as it is.

    Source: the PNG specification, chunks and tEXt; ComfyUI writes ASCII, with escapes.
    """
    if not content.startswith(PNG):
        return content
    parts, position, done = [PNG], len(PNG), False
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        chunk = content[position : position + length + 12]
        position += length + 12
        if len(chunk) < length + 12:
            return content
        if kind == b"tEXt" and chunk[8:-4].partition(b"\0")[0] in OURS:
            continue
        parts.append(chunk)
        if kind == b"IHDR" and not done:
            parts.append(_text(b"prompt", json.dumps(graph).encode()))
            done = True
    return b"".join(parts)


def _text(key: bytes, text: bytes) -> bytes:
    body = b"tEXt" + key + b"\0" + text
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
