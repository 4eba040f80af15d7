"""python -m kolors_core.migrate OLD NEW: a graph of the older Kolors packs, with the nodes of this pack."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

from . import NotAGraph, convert_graph
from .embedded import read_graph
from .wrapped import parse


def read(path: Path) -> object:
    """The JSON of a file, or the graph that ComfyUI stored in an image.

    Raises SystemExit with what is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        found = read_graph(content)
    except ValueError as error:
        raise SystemExit(
            f"{path} {error}. Expected a graph: a .json that ComfyUI saved, or a PNG, WebP, JPEG or .latent file with "
            "the graph in it. Images lose it where a site or a program stores them anew."
        ) from error
    try:
        return parse(content if found is None else found)
    except (ValueError, RecursionError) as error:
        raise SystemExit(
            f"{path} is not JSON ({error}), nor an image with a graph in it. Save the graph in ComfyUI and give its "
            ".json."
        ) from error


def write(path: Path, data: object, overwrite: bool) -> None:
    """Write a new file. Raises SystemExit where it cannot be written, or exists and may not be overwritten."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    try:
        content = text.encode()
    except UnicodeEncodeError:  # half a character, which only an escape can stand for
        content = json.dumps(data, indent=2).encode()
    try:
        with path.open("wb" if overwrite else "xb") as file:
            file.write(content + b"\n")
    except FileExistsError:
        raise SystemExit(f"{path} exists already. Give another name, or add --overwrite.") from None
    except OSError as error:
        raise SystemExit(f"{path} cannot be written: {error.strerror or error}.") from error


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m kolors_core.migrate", description=__doc__)
    parser.add_argument(
        "old", type=Path, help="the graph: .json in canvas or API format, or an image that ComfyUI saved"
    )
    parser.add_argument("new", type=Path, help="where the converted graph is written, in the same format")
    parser.add_argument("--overwrite", action="store_true", help="let an existing NEW be replaced")
    given = parser.parse_args(arguments)
    if given.new.resolve() == given.old.resolve():
        raise SystemExit(
            f"{given.new} is the original, which is never overwritten. Give another name for the new file."
        )
    try:
        result, report = convert_graph(read(given.old))
    except NotAGraph as error:
        raise SystemExit(f"{given.old}: {error}") from error
    write(given.new, result, given.overwrite)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console that cannot show Chinese
    sys.stdout.write(f"{report.text()}Written: {given.new}\n")


if __name__ == "__main__":
    main()
