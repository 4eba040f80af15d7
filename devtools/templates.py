"""The workflow templates: laid out by rule in the newest front end, and saved as it saves them."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from . import places, prepare
from .chromium import get_chromium
from .folders import link_pack
from .front_end import get_newest_front_end
from .graph_layout import NOTE
from .host import host_version
from .places import PACK_NAME, Setup
from .progress import SetupError
from .server import free_port, running_server

#: Folders of what the front end opens as a workflow, and as a subgraph.
FOLDERS = ("workflows", "subgraphs")
NEEDS = re.compile(r"Needs ComfyUI (\d+(?:\.\d+)+) or newer")  # in the English note of a template
EXAMPLE = "example.png"  # which Load Image shows where nothing else was chosen


def templates_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="a template's name, as its card says it; all of them without one")


def run_templates(args: argparse.Namespace) -> int:
    files = find(args.name)
    setup, progress = prepare.set_up(args, more=4)
    for file in [file for file in files if needs_newer(json.loads(file.read_text(encoding="utf-8")), setup.comfyui)]:
        print(f"{file.stem} is left as it is: it needs a newer ComfyUI; give one with --comfyui.", file=sys.stderr)
        files.remove(file)
    get_chromium(setup.python)
    front_end = get_newest_front_end(setup.python, progress)
    with tempfile.TemporaryDirectory() as folder:
        alone = make_base(setup, Path(folder))
        with running_server(alone, progress, free_port(), front_end=front_end) as server:
            return prepare.run_here(setup, "-m", "devtools.template_layout", server.url, *files)


def find(names: list[str]) -> list[Path]:
    """The files of these names, or all."""
    files = sorted(path for folder in FOLDERS for path in (places.ROOT / folder).glob("*.json"))
    if unknown := set(names) - {path.stem for path in files}:
        raise SetupError(
            f"There is no template {', '.join(sorted(unknown))}. There are: {', '.join(p.stem for p in files)}."
        )
    return [path for path in files if not names or path.stem in names]


def needs_newer(workflow: dict, comfyui: Path) -> bool:
    """Whether a note of a template asks for a newer ComfyUI than this one, whose nodes would be other ones."""
    notes = (node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == NOTE)
    asked = [match[1] for note in notes if (match := NEEDS.search(note))]
    return any(numbers(host_version(comfyui)) < numbers(version) for version in asked)


def numbers(version: str) -> tuple[int, ...]:
    """0.3.75 as (0, 3, 75)."""
    return tuple(map(int, re.findall(r"\d+", version)))


def make_base(setup: Setup, base: Path) -> Setup:
    """A base directory of its own: the settings of the front end that `serve` starts stay as they are."""
    for name in ("custom_nodes", "input"):
        (base / name).mkdir()
    link_pack(base / "custom_nodes" / PACK_NAME, places.ROOT)
    shutil.copy(setup.comfyui / "input" / EXAMPLE, base / "input")
    return Setup(setup.python, setup.comfyui, base)
