"""Writes what is derived from the declarations of the nodes: `python3 dev.py texts`.

    locales/en/nodeDefs.json             titles, descriptions, names and tooltips of the pack's nodes
    kolors_core/migrate/shapes.json      inputs and outputs of the nodes that a converted graph is made of

A declaration asks ComfyUI for the user's files, so this runs with the Python of the environment, where COMFYUI_PATH
names a ComfyUI. The command line needs one line for it, beside those of the other commands:

    return run_here(setup, ROOT / "devtools" / "texts.py")
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ALIAS = "comfyui_kolors"
PACK, CORE = "comfyui-kolors", "comfy-core"
#: Where the host keeps those of the stock nodes that are not in its nodes.py. The first is there for newer hosts: the
#: second imports it, and it the second, which ends well only in this order.
EXTRAS = ("comfy_extras.nodes_post_processing", "comfy_extras.nodes_latent")
WIDGETS = {"COMBO", "INT", "FLOAT", "STRING"}
CONTROL = "control_after_generate"
COMMAND = "python3 dev.py texts"


# ---- from declarations ----------------------------------------------------------------------------------------------


def options_of(node: type) -> dict[str, dict]:
    """Options of each input, by name."""
    return {name: options for name, _, options, _ in _inputs(node)}


def _inputs(node: type) -> Iterable[tuple[str, Any, dict, bool]]:
    """Name, type, options, and whether it is optional, of each input in the order of the node."""
    declared = node.INPUT_TYPES()
    for part in ("required", "optional"):
        for name, (kind, *options) in declared.get(part, {}).items():
            yield name, kind, options[0] if options else {}, part == "optional"


def english_texts(classes: dict[str, type]) -> dict[str, dict]:
    """The English locale: what the nodes say themselves."""
    return {
        name: {
            "display_name": node.TITLE,
            "description": node.DESCRIPTION,
            "inputs": {key: {"name": key, "tooltip": o.get("tooltip", "")} for key, o in options_of(node).items()},
            "outputs": {
                str(i): {"name": key, "tooltip": tooltip}
                for i, (key, tooltip) in enumerate(zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS))
            },
        }
        for name, node in classes.items()
    }


def shape(node: type, pack: str) -> dict[str, Any]:
    """What the converter of old graphs knows of a node; an input has the fields of `migrate.shapes.Input`."""
    names = getattr(node, "RETURN_NAMES", None) or node.RETURN_TYPES
    return {
        "pack": pack,
        "inputs": [_input(*each) for each in _inputs(node)],
        "outputs": [list(pair) for pair in zip(names, node.RETURN_TYPES)],
    }


def _input(name: str, kind: Any, options: dict, optional: bool) -> dict[str, Any]:
    choices = list(kind) if isinstance(kind, (list, tuple)) else options.get("options", [])
    kind = "COMBO" if isinstance(kind, (list, tuple)) else kind
    found: dict[str, Any] = {"name": name, "type": kind}
    if optional:
        found["optional"] = True
    if kind in WIDGETS:
        found["default"] = options.get("default", "")
        if kind in ("INT", "FLOAT"):
            found["limits"] = [options["min"], options["max"]]
        if kind == "COMBO" and "default" in options:  # without one it lists the user's files
            found["choices"] = choices
        if options.get(CONTROL):
            found["control"] = True
    return found


# ---- to files -------------------------------------------------------------------------------------------------------


LOCALE, SHAPES = "locales/en/nodeDefs.json", "kolors_core/migrate/shapes.json"


def files(ours: dict[str, type], stock: dict[str, type], kinds: Iterable[str], kept: dict[str, dict]) -> dict[str, str]:
    """Text of each file, by its place in the repository.

    kinds: the nodes that have a shape. kept: the shapes so far, of which the stock nodes keep narrower limits.
    """
    shapes = {k: shape(ours[k], PACK) if k in ours else narrow(shape(stock[k], CORE), kept.get(k, {})) for k in kinds}
    return {
        LOCALE: json.dumps(english_texts(ours), indent=2, ensure_ascii=False) + "\n",
        SHAPES: _lines(shapes),
    }


def narrow(told: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """A stock node with limits that hold on every ComfyUI that was asked so far; some widened theirs."""
    limits = {one["name"]: one["limits"] for one in kept.get("inputs", []) if "limits" in one}
    for one in told["inputs"]:
        if "limits" in one and one["name"] in limits:
            (low, high), (kept_low, kept_high) = one["limits"], limits[one["name"]]
            one["limits"] = [max(low, kept_low), min(high, kept_high)]
    return told


def _lines(shapes: dict[str, dict]) -> str:
    """JSON with an input on each line."""
    nodes = []
    for kind, one in shapes.items():
        inputs = ",\n".join(f"   {json.dumps(each)}" for each in one["inputs"])
        head = f' {json.dumps(kind)}: {{\n  "pack": {json.dumps(one["pack"])},\n  "inputs": [\n{inputs}\n  ],\n'
        nodes.append(head + f'  "outputs": {json.dumps(one["outputs"])}\n }}')
    return "{\n" + ",\n".join(nodes) + "\n}\n"


def write(root: Path, texts: dict[str, str]) -> list[str]:
    """Write the files that differ, and return their places."""
    changed = [place for place, text in texts.items() if _read(root / place) != text]
    for place in changed:
        (root / place).write_text(texts[place], encoding="utf-8", newline="\n")
    return changed


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


# ---- in the host ----------------------------------------------------------------------------------------------------


def derived() -> dict[str, str]:
    """`files` of this pack on the ComfyUI that this process has entered."""
    importlib.import_module(f"{ALIAS}.kolors_core.host.model_files").register()  # as the pack's __init__ does first
    ours = importlib.import_module(f"{ALIAS}.nodes").NODE_CLASS_MAPPINGS
    kinds = importlib.import_module(f"{ALIAS}.kolors_core.migrate.shapes").SIZES
    *_, extras = map(importlib.import_module, EXTRAS)
    stock = {**vars(extras), **importlib.import_module("nodes").NODE_CLASS_MAPPINGS}
    return files(ours, stock, kinds, json.loads((ROOT / SHAPES).read_text(encoding="utf-8")))


def enter_host(comfyui: str, base: str) -> None:
    """Make the host's modules importable, and the pack under its alias: both have something named `nodes`."""
    sys.path[:] = [comfyui, *(entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, HERE))]
    package = types.ModuleType(ALIAS)
    package.__path__ = [str(ROOT)]
    sys.modules[ALIAS] = package
    options = importlib.import_module("comfy.options")
    options.enable_args_parsing()
    sys.argv[1:] = ["--cpu", "--base-directory", base]
    importlib.import_module("comfy.cli_args")


def main() -> int:
    comfyui = os.environ.get("COMFYUI_PATH")
    if not comfyui:
        sys.exit(f"COMFYUI_PATH is not set. Run {COMMAND}, which brings a ComfyUI.")
    with tempfile.TemporaryDirectory() as base:
        enter_host(comfyui, base)
        changed = write(ROOT, derived())
    print("\n".join(changed) if changed else "Nothing to write: both files are what the nodes declare.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
