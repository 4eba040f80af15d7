"""Graphs inside of pictures and latents, and files that are neither."""

from __future__ import annotations

import io
import json
import struct
import zlib

import pytest
from comfyui_kolors.kolors_core.migrate.embedded import read_graph
from graph_files import as_canvas, png
from old_graphs import text_to_image
from PIL import Image, PngImagePlugin

PROMPT, CANVAS = (json.dumps(graph) for graph in (text_to_image(), as_canvas(text_to_image())))
MAKE, MODEL, DESCRIPTION, EXIF_ENTRIES, USER_COMMENT = 0x010F, 0x0110, 0x010E, 0x8769, 0x9286


def picture(kind: str, exif: dict[int, str] | None = None, comment: bytes | None = None) -> bytes:
    """A picture as Pillow writes it, with EXIF as ComfyUI fills it."""
    entries, file = Image.Exif(), io.BytesIO()
    for tag, text in (exif or {}).items():
        entries[tag] = text
    if comment is not None:
        entries.get_ifd(EXIF_ENTRIES)[USER_COMMENT] = comment
    Image.new("RGB", (8, 8)).save(file, kind, exif=entries)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["WEBP", "JPEG"])
def test_the_canvas_in_exif_is_read_before_the_prompt(kind):
    both = {MODEL: f"prompt:{PROMPT}", MAKE: f"workflow:{CANVAS}"}
    assert read_graph(picture(kind, both)) == CANVAS
    assert read_graph(picture(kind, {DESCRIPTION: f"Prompt:{PROMPT}"})) == PROMPT
    assert read_graph(picture(kind, {DESCRIPTION: CANVAS})) == CANVAS


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_a_comment_of_exif_is_read(order):
    assert read_graph(picture("JPEG", comment=b"UNICODE\0" + CANVAS.encode(order))) == CANVAS
    assert read_graph(picture("JPEG", comment=b"ASCII\0\0\0" + PROMPT.encode())) == PROMPT


@pytest.mark.parametrize("packed", [False, True])
def test_every_kind_of_text_in_a_png_is_read(packed):
    for international in (False, True):
        texts, file = PngImagePlugin.PngInfo(), io.BytesIO()
        add = texts.add_itxt if international else texts.add_text
        add("prompt", "{}", zip=packed)
        add("workflow", CANVAS, zip=packed)
        Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=texts)
        assert read_graph(file.getvalue()) == CANVAS


def test_the_chunk_of_animations_is_read():
    data = b"workflow\0" + CANVAS.encode()
    chunk = struct.pack(">I", len(data)) + b"comf" + data + b"\0" * 4
    assert read_graph(png(other="x") + chunk) == CANVAS


def test_a_saved_latent_is_read():
    header = json.dumps({"__metadata__": {"prompt": PROMPT, "workflow": CANVAS}}).encode()
    assert read_graph(struct.pack("<Q", len(header)) + header + b"\0" * 64) == CANVAS


def test_text_is_no_picture():
    for content in (PROMPT.encode(), CANVAS.encode("utf-16"), b"", b"{", b"\xff\xfe\x00"):
        assert read_graph(content) is None


NAMED = {
    "a PNG without a graph": png(parameters="a cat"),
    "a WebP without a graph": picture("WEBP", {MODEL: "a camera"}),
    "a JPEG without a graph": picture("JPEG"),
    "a safetensors or .latent file without a graph": struct.pack("<Q", 2) + b"{}",
    "a GIF": b"GIF89a" + b"\0" * 9,
    "an AVIF image": b"\0\0\0\x1cftypavif",
    "an MP4 video": b"\0\0\0\x1cftypisom",
    "a FLAC file": b"fLaC\0",
    "a ZIP archive": b"PK\x03\x04",
    "a web page": b"\n <!DOCTYPE html><html>",
    "an XML or SVG file": b"<?xml version='1.0'?><svg/>",
}


@pytest.mark.parametrize("kind", NAMED)
def test_what_else_a_file_is_is_named(kind):
    with pytest.raises(ValueError, match=f"is {kind}"):
        read_graph(NAMED[kind])


@pytest.mark.parametrize("content", [picture("WEBP", {MAKE: f"workflow:{CANVAS}"}), picture("JPEG", {MAKE: "x:y"})])
def test_pictures_that_are_cut_short_or_changed_end(content):
    for cut in range(0, len(content), 7):
        for data in (content[:cut], content[:cut] + b"\xff\xff\xff\xff" + content[cut + 4 :]):
            try:
                read_graph(data)
            except ValueError as error:
                assert str(error).startswith("is ")


def test_a_packed_text_that_is_damaged_or_huge_ends():
    for data in (b"workflow\0\0x", b"workflow\0\0" + zlib.compress(b" " * (300 << 20))):
        chunk = struct.pack(">I", len(data)) + b"zTXt" + data + b"\0" * 4
        assert len(read_graph(png() + chunk) or "") <= 256 << 20
