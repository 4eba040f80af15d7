"""What is there of the model files, what is wrong with it, what is missing for which template, and what to do."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import KolorsError
from . import catalog
from .download import PART
from .folders import PACKAGE, find_root
from .match import UNCLEAR, kind_of, role_of
from .scan import Found, Scanner, printable
from .templates import BASE, groups, shorten, title
from .tokenizers import find_tokenizer, settle

GET = "python -m kolors_core.models get"
WIDTH = 80  # columns
TIE = "\xa0"  # a space at which no line is broken
LABELS = {
    "unet": "UNet",
    "encoder": "Text encoder",
    "tokenizer": "Tokenizer",
    "vae": "VAE",
    "inpainting": "Inpainting UNet",
    "ip-adapter-plus": "IP-Adapter",
    "faceid-plus": "FaceID",
    "vision-encoder": "Vision encoder",
    "lcm-lora": "LCM LoRA",
    "hyper-lora": "Hyper LoRA",
    "preview-decoder": "Preview decoder",
}
#: Storage of the encoder, bytes that it takes in memory, and the video memory that it is for.
STORAGES = (
    ("fp16", 12.0e9, "16 GB of video memory or more"),
    ("int8", 6.2e9, "between the two"),
    ("int4", 3.4e9, "8 to 12 GB of video memory"),
)
UNCLEAR_VAE = (
    "It may be SDXL's or SD1.5's, which gives wrong colours: nothing inside tells. If it is SDXL's, put sdxl into its "
    "name."
)
UNET_MEMORY, REST = 5.2e9, 2e9  # bytes: what waits beside the encoder, and what the system needs at least

Say = Callable[[str], None]  # writes a line
Row = tuple[str, str, str, str, list[str]]  # label, status, size, path, and sentences below


def check(root: Path | None, quick: bool, write: Callable[[str], object]) -> int:
    """Write a report of the model files of a ComfyUI, a line with its end at a time.

    root: as `folders.find_root` takes it. quick: leave out the hashes.
    Returns 0 where everything for text to image is there and whole and nothing is damaged, else 1; 2 where `root` is
    no ComfyUI.
    """

    def say(line: str) -> None:
        write(f"{printable(line)}\n")

    try:
        folder = find_root(root)
    except KolorsError as error:
        say(str(error))
        return 2
    scanner = Scanner(folder, quick, show_progress)
    found = settle(scanner.run())
    served = find_served(found)
    movable = {role for each in found if each.misplaced and not each.fault for role in each.roles}
    say(f"ComfyUI: {folder}")
    for note in scanner.notes:
        _write_wrapped(say, note, "")
    say("")
    say("Model files" + (" (hashes not compared: --quick)" if quick else ""))
    _write_rows(say, _list_rows(found, served))
    say("")
    _write_memory(say)
    say("")
    _write_templates(say, served, movable)
    say("")
    return _write_verdict(say, found, served, movable, root)


def find_served(found: list[Found]) -> set[str]:
    """The names of the catalog that files which work stand for."""
    served = {role for each in found if each.usable for role in each.roles if role != "tokenizer"}
    encoders = [each for each in found if "encoder" in each.roles]
    alone = any(each.roles == ("tokenizer",) and each.usable for each in found) and not encoders
    if alone or any(each.has_tokenizer or find_tokenizer(each, found) for each in encoders):
        served.add("tokenizer")
    return served


def _list_rows(found: list[Found], served: set[str]) -> list[Row]:
    rows = list[Row]()
    order = list(dict.fromkeys(map(role_of, catalog.BY_NAME)))
    for role in order:
        here = [each for each in found if each.roles[:1] == (role,)]
        rows += map(_row, here)
        if role == "tokenizer":
            note = "It has the tokenizer inside; no other is needed for it."
            rows += [(LABELS[role], "inside", "", each.shown, [note]) for each in found if each.has_tokenizer]
        if role in catalog.FEATURES[BASE] and role not in served and not any(role in each.roles for each in found):
            rows.append(_missing_row(role))
        if role == "vae" and role not in served:
            unclear = [each for each in found if each.roles == UNCLEAR]
            rows += [(label(role), "unclear", format_size(each.size), each.shown, [UNCLEAR_VAE]) for each in unclear]
    return rows + [_row(each) for each in found if not each.roles or each.roles[0] not in (*order, *UNCLEAR)]


def _missing_row(role: str) -> Row:
    lines = [f"Get it: {GET} {role}"]
    if role == "encoder":
        smaller = [file for file in catalog.FILES if role_of(file.name) == role and file.name != role]
        lines.append(f"Or a smaller one: {', '.join(f'{each.name} ({format_size(each.size)})' for each in smaller)}.")
    return label(role), "missing", format_size(catalog.BY_NAME[role].size), "", lines


def _row(each: Found) -> Row:
    names = " + ".join(map(label, each.roles)) or "Other"
    status = "whole" if each.roles else "not Kolors"
    lines = [f"It {text}" for text in (each.misplaced, each.note) if text]
    if each.path.suffix == PART:
        status, lines = "unfinished", [f"Go on with it: {GET} {each.name}"]
    elif each.is_other:
        status, lines = "wrong", [f"It {each.fault}.", f"Rename it and get the right one: {GET} {each.name}"]
    elif each.fault:
        unread = each.fault.startswith("cannot be read")
        again = "Let it be read, or get it again" if unread else "Delete it and get it again"
        status, lines = "damaged", [f"It {each.fault}.", f"{again}: {GET} {each.name}" if each.name else "Delete it."]
    elif each.misplaced:
        status = "misplaced"
    return names, status, format_size(each.size), each.shown, lines


def label(role: str) -> str:
    """What a user calls a role."""
    if role.startswith("controlnet"):
        return " ".join(["ControlNet", *(part.capitalize() for part in role.split("-")[1:])])
    return "Face model" if role.startswith("antelopev2") else LABELS.get(role, role)


def format_size(size: int) -> str:
    """Bytes as people read them."""
    if size < 1e3:
        return f"{size} bytes"
    unit, name = next((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")) if size >= unit)
    digits = 2 if name == "GB" or size < 10 * unit else 0
    return f"{size / unit:.{digits}f} {name}"


def _write_rows(say: Say, rows: list[Row]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, status, size, shown, lines in rows:
        say(f"  {name:<{widths[0]}}  {status:<{widths[1]}}  {size:>{widths[2]}}  {shown}".rstrip())
        for line in lines:
            _write_wrapped(say, line, " " * 6)


def _write_wrapped(say: Say, text: str, indent: str, first: str | None = None) -> None:
    """Write a sentence in lines of WIDTH columns; a command and a path stay in one piece."""
    if GET in text:
        say(indent + text)
        return
    start = indent if first is None else first
    for line in textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ):
        say(line.replace(TIE, " "))


def main_memory() -> int | None:
    """The bytes of this machine's main memory, where the system tells."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(ImportError):
        import psutil

        return psutil.virtual_memory().total
    return None


def _write_memory(say: Say) -> None:
    say("Which storage of the text encoder for which memory")
    for name, needed, memory in STORAGES:
        say(f"  {name}  {needed / 1e9:4.1f} GB in memory  {memory}")
    if (total := main_memory()) is not None:
        fitting = [name for name, needed, _ in STORAGES if needed + UNET_MEMORY + REST <= total]
        fits = f"{fitting[0]} fits" if fitting else "none of them fits"
        say(f"  This machine has {total / 1e9:.1f} GB of main memory: {fits} beside the UNet ({UNET_MEMORY / 1e9} GB).")


def _write_templates(say: Say, served: set[str], movable: set[str]) -> None:
    say("Templates")
    for needed, names in groups().items():
        missing = [name for name in needed if name not in served]
        start = f"  {title(needed)}, {len(names)} template{'s' * (len(names) > 1)}: "
        if not missing:
            say(f"{start}ready")
            continue
        _write_wrapped(say, f"missing {', '.join(_list_missing(missing, movable, title(needed)))}", " " * 6, start)
        if to_get := [name for name in missing if name not in movable]:
            say(f"      {GET} {' '.join(shorten(to_get))}")


def _list_missing(missing: list[str], movable: set[str], group: str) -> list[str]:
    """The files with their sizes; the face models as one, and all of text to image as one but in its own group."""
    base = catalog.FEATURES[BASE]
    whole = set(base) <= set(missing) and group != BASE and not movable & set(base)
    parts: dict[str, list[str]] = {}
    for name in missing:
        key = f"all of {BASE}" if whole and name in base else kind_of(name) if name.startswith("antelopev2") else name
        parts.setdefault(key, []).append(name)
    listed = []
    for key, names in parts.items():
        size = "misplaced" if key in movable else format_size(sum(catalog.BY_NAME[name].size for name in names))
        listed.append(f"{key} ({size})".replace(" ", TIE))
    return listed


def _write_verdict(say: Say, found: list[Found], served: set[str], movable: set[str], root: Path | None) -> int:
    missing = [name for name in catalog.FEATURES[BASE] if name not in served]
    damaged = any(each.fault for each in found)
    if missing:
        say(f"Not ready for text to image. Missing: {', '.join(map(label, missing))}.")
        if movable & set(missing):
            say("  Move or copy what is misplaced, as said above.")
        if to_get := [name for name in missing if name not in movable]:
            say(f"  {GET} {' '.join(shorten(to_get))}")
    elif damaged:
        say("Ready for text to image, but not everything is whole.")
    else:
        say("Everything for text to image is there and whole.")
        return 0
    if damaged or not set(missing) <= movable:
        given = f'"{root}"' if " " in str(root) else root
        say(f"Run these commands in {PACKAGE}" + ("" if root is None else f" with --root {given}"))
    return 1


def show_progress(name: str, size: int, done: int) -> None:
    """One line of a terminal, written anew, and taken away when a file is done."""
    if not sys.stderr.isatty():
        return
    text = f"Reading {name[-50:]}: {done / size:.0%}" if size else ""
    sys.stderr.write(f"\r{text:<{WIDTH - 1}}" if done < size else f"\r{'':<{WIDTH - 1}}\r")
    sys.stderr.flush()
