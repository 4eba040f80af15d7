"""The graph that ComfyUI stores in its PNG files."""

from __future__ import annotations

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEYS = ("workflow", "prompt")  # the canvas format first


def read_workflow(content: bytes) -> str | None:
    """The JSON text of a PNG's "workflow", or else of its "prompt"; None where there is none, or no PNG.

    Source: the PNG specification, chunks tEXt and uncompressed iTXt. The text of tEXt is read as UTF-8, as other tools
    write it, where it is.
    """
    texts: dict[str, str] = {}
    position = len(SIGNATURE)
    while content.startswith(SIGNATURE) and position + 8 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        key, _, text = data.partition(b"\0")
        if kind == b"iTXt" and text[:1] == b"\0":
            text = text[2:].split(b"\0", 2)[-1]
        if kind in (b"tEXt", b"iTXt"):
            try:
                texts[key.decode("latin-1")] = text.decode("utf-8")
            except UnicodeDecodeError:
                texts[key.decode("latin-1")] = text.decode("latin-1")
        position += length + 12
    return next((texts[key] for key in KEYS if key in texts), None)
