"""The graph that ComfyUI and its front end store in images, and what other files are that people take for one."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator

KEYS = ("workflow", "prompt")  # the canvas format first
PNG = b"\x89PNG\r\n\x1a\n"
MOST_TEXT = 256 << 20  # bytes of one unpacked text, so that no file can fill the memory
#: EXIF: the types that hold text, the entry that leads to more entries, and the comment with its 8-byte mark.
TEXT = (1, 2, 7)  # BYTE, ASCII, UNDEFINED
EXIF_ENTRIES, USER_COMMENT = 0x8769, 0x9286
UTF16_MARK = b"UNICODE\0"
#: How other files begin: (offset, bytes, what they are).
OTHERS = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP image"),
    (0, b"fLaC", "a FLAC file"),
    (0, b"ID3", "an MP3 file"),
    (0, b"OggS", "an Ogg file"),
    (0, b"\x1a\x45\xdf\xa3", "a WebM or Matroska video"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyp", "an MP4 video or HEIC image"),
    (0, b"glTF", "a GLB model"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"%PDF", "a PDF document"),
)


def read_graph(content: bytes, keys: tuple[str, ...] = KEYS) -> str | None:
    """The JSON text of the graph in a PNG, WebP, JPEG or .latent file: the first of `keys`, canvas or prompt.

    None where the file is none of these. Raises ValueError, which says what the file is, where it holds no graph.
    """
    for begins, kind, read in READERS:
        if begins(content):
            texts = dict(read(content))
            found = next((texts[key] for key in keys if key in texts), None)
            if found is None:
                raise ValueError(f"is {kind} without a graph in it")
            return found
    kind = next((kind for offset, mark, kind in OTHERS if content.startswith(mark, offset)), None)
    start = content[:1000].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        kind = "a web page"
    elif start.startswith((b"<?xml", b"<svg")):
        kind = "an XML or SVG file"
    if kind:
        raise ValueError(f"is {kind}")
    return None


# ---- PNG


def _read_png(content: bytes) -> Iterator[tuple[str, str]]:
    """Source: the PNG specification, tEXt, zTXt and iTXt; "comf" is what ComfyUI writes into animations.

    Text is read as UTF-8, as other tools write it, where it is.
    """
    position = len(PNG)
    while position + 8 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        key, _, text = data.partition(b"\0")
        if kind == b"zTXt":
            text = _inflate(text[1:])
        elif kind == b"iTXt":
            packed = text[:1] == b"\1"
            text = text[2:].split(b"\0", 2)[-1]
            text = _inflate(text) if packed else text
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"comf"):
            yield key.decode("latin-1").lower(), _decode(text)
        position += length + 12


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MOST_TEXT)
    except zlib.error:
        return b""


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


# ---- WebP and JPEG: EXIF


def _read_webp(content: bytes) -> Iterator[tuple[str, str]]:
    """Source: the WebP container specification; the text stands in the chunk EXIF."""
    position = 12
    while position + 8 <= len(content):
        kind, length = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "little")
        if kind == b"EXIF":
            yield from _read_exif(content[position + 8 : position + 8 + length])
        position += 8 + length + length % 2


def _read_jpeg(content: bytes) -> Iterator[tuple[str, str]]:
    """Source: the JPEG specification; the text stands in a segment APP1, before the image."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF and content[position + 1] != 0xDA:
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        data = content[position + 4 : position + 2 + length]
        if content[position + 1] == 0xE1 and data.startswith(b"Exif\0\0"):
            yield from _read_exif(data)
        position += 2 + max(length, 2)


def _read_exif(data: bytes) -> Iterator[tuple[str, str]]:
    """The texts of the form ``key:text`` in EXIF's entries; a text that is JSON stands under a key of its own.

    Source: the TIFF 6.0 and EXIF specifications.
    """
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return
    for text in _exif_texts(data, order, struct.unpack_from(order + "I", data, 4)[0], depth=0):
        key, colon, rest = text.partition(":")
        if colon and key.strip().lower() in KEYS:
            yield key.strip().lower(), rest
        elif text.lstrip().startswith("{"):
            yield KEYS[0], text


def _exif_texts(data: bytes, order: str, offset: int, depth: int) -> Iterator[str]:
    if depth > 2 or offset + 2 > len(data):
        return
    for index in range(struct.unpack_from(order + "H", data, offset)[0]):
        entry = offset + 2 + 12 * index
        if entry + 12 > len(data):
            return
        tag, kind, count, value = struct.unpack_from(order + "HHII", data, entry)
        if tag == EXIF_ENTRIES:
            yield from _exif_texts(data, order, value, depth + 1)
        elif kind in TEXT:
            start = entry + 8 if count <= 4 else value
            text = data[start : start + count]
            if tag == USER_COMMENT:
                mark, text = text[:8], text[8:]
                if mark == UTF16_MARK:  # in either order, whatever the rest has
                    yield text.decode("utf-16-be" if text[:1] == b"\0" else "utf-16-le", errors="replace")
                    continue
            yield _decode(text.rstrip(b"\0"))


# ---- safetensors, as which ComfyUI saves latents


def _is_safetensors(content: bytes) -> bool:
    return content[8:9] == b"{" and 8 + int.from_bytes(content[:8], "little") <= len(content)


def _read_safetensors(content: bytes) -> Iterator[tuple[str, str]]:
    """Source: the safetensors format; ComfyUI keeps its texts in the metadata."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (ValueError, RecursionError):
        return
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    for key, text in (metadata if isinstance(metadata, dict) else {}).items():
        if isinstance(text, str):
            yield key, text


Reader = Callable[[bytes], Iterator[tuple[str, str]]]
READERS: tuple[tuple[Callable[[bytes], bool], str, Reader], ...] = (
    (lambda content: content.startswith(PNG), "a PNG", _read_png),
    (lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP", "a WebP", _read_webp),
    (lambda content: content.startswith(b"\xff\xd8\xff"), "a JPEG", _read_jpeg),
    (_is_safetensors, "a safetensors or .latent file", _read_safetensors),
)
