"""The map in kolors_core/__init__.py is true: who may import whom, and which room of the seam holds what."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from comfyui_kolors import kolors_core
from comfyui_kolors.kolors_core import FLOORS
from house import PACK, ROOT, SEAM, imported_modules, name_of


def module_of(path: Path) -> str:
    """`host.unet` of kolors_core/host/unet.py; the pack's own __init__.py is `pack`, that of a folder the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts).removeprefix("kolors_core.") or "pack"


def own_imports(tree: ast.AST, path: Path) -> list[tuple[str, int]]:
    """Module, or name in a module, and line of everything that a file imports of the pack."""
    package, found = path.relative_to(ROOT).parts[:-1], []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *filter(None, [node.module])]
            found += [(".".join((*base, alias.name)).removeprefix("kolors_core."), node.lineno) for alias in node.names]
    return found


def floor_faults(source: str, path: Path) -> list[str]:
    """Imports that FLOORS does not name."""
    floor = module_of(path).split(".")[0]
    allowed = (floor, *FLOORS.get(floor, ()))
    return [
        f"line {line}: {floor} may not import {name}"
        for name, line in own_imports(ast.parse(source), path)
        if not any(f"{name}.".startswith(f"{each}.") for each in allowed)
    ]


@pytest.mark.parametrize("path", PACK, ids=name_of)
def test_a_floor_imports_only_what_it_may(path):
    assert not floor_faults(path.read_text(encoding="utf-8"), path)


@pytest.mark.parametrize(
    ("place", "bad"),
    [
        ("nodes/lora.py", "from ..kolors_core.networks import chatglm3"),
        ("nodes/lora.py", "from ..kolors_core.files import open_weights"),
        ("nodes/lora.py", "from ..kolors_core import errors"),
        ("kolors_core/host/lora.py", "from ..migrate.shapes import SHAPES"),
        ("kolors_core/host/lora.py", "from ...nodes import lora"),
        ("kolors_core/host/ip_adapter/face.py", "from ...migrate import convert"),
        ("kolors_core/files/gguf.py", "from ..networks.tokenizer import ChatGLM3Tokenizer"),
        ("kolors_core/files/gguf.py", "def f():\n  from ..host import compat"),
        ("kolors_core/networks/vision.py", "from ..files.identify import strip_prefix"),
        ("kolors_core/networks/vision.py", "from .. import sampling"),
        ("kolors_core/sampling/schedule.py", "from ..networks import vision"),
        ("kolors_core/migrate/table.py", "from ..errors import KolorsError"),
        ("kolors_core/errors.py", "from . import files"),
        ("kolors_core/__init__.py", "from .files import open_weights"),
        ("kolors_core/new/room.py", "from ..errors import KolorsError"),
        ("__init__.py", "from .kolors_core.migrate import convert"),
    ],
)
def test_an_import_of_another_floor_is_found(place, bad):
    assert len(floor_faults(bad, ROOT / place)) == 1


def test_imports_of_a_floor_and_of_those_below_it_are_allowed():
    for place, good in (
        ("nodes/lora.py", "from ..kolors_core.host import lora, messages\nfrom . import prompt"),
        ("nodes/prompt.py", "from ..kolors_core.files.conditioning import load_conditioning"),
        (
            "kolors_core/host/ip_adapter/face.py",
            "from ...errors import log\nfrom .. import compat\nfrom .adapter import a",
        ),
        ("kolors_core/files/__init__.py", "from .safetensors import map_tensors\nfrom ..errors import KolorsError"),
        ("kolors_core/files/gguf.py", "from ..networks.tokenizer import SPECIAL_TOKENS\nfrom . import locate"),
        ("__init__.py", "from .kolors_core.host import unet\nfrom .nodes import NODE_CLASS_MAPPINGS"),
    ):
        assert not floor_faults(good, ROOT / place), place


COMMANDS = [path for path in PACK if module_of(path).split(".")[0] in ("migrate", "models", "render")]
#: What a room of a command takes where it is installed, or imports only when it is needed.
OPTIONAL = {
    "models.check": {"psutil"},
    "models.convert": {"torch"},
    "models.download": {"certifi"},
    "models.folders": {"yaml"},
    "models.get": {"tqdm"},
    "render.actors": {"pyarrow", "ray"},  # is imported on a cluster only
    "render.client": {"aiohttp"},  # which ComfyUI's Python has
    "render.cluster": {"pyarrow", "ray"},
    "render.comfyui": {"psutil"},
    "render.parquet": {"pyarrow"},  # is imported where it is installed
    "render.progress": {"tqdm"},
    "render.storage": {"fsspec", "pyarrow"},
    "render.table": {"pyarrow"},
}


def foreign_imports(tree: ast.AST) -> list[str]:
    """Imports of what Python does not bring along."""
    return [f"line {line}: {name}" for name, line in imported_modules(tree) if name not in sys.stdlib_module_names]


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_a_command_for_a_shell_needs_python_alone(path):
    allowed = OPTIONAL.get(module_of(path), set())
    faults = foreign_imports(ast.parse(path.read_text(encoding="utf-8")))
    assert not [fault for fault in faults if fault.split(": ")[1] not in allowed]


def test_an_import_of_what_python_does_not_bring_is_found():
    assert foreign_imports(ast.parse("import json\ndef f():\n  from torch import nn")) == ["line 3: torch"]


def test_every_floor_is_on_the_map_above_those_it_is_built_on():
    assert set(FLOORS) == {module_of(path).split(".")[0] for path in PACK} - {"kolors_core"}
    order = list(FLOORS)
    for floor, allowed in FLOORS.items():
        below = {name.split(".")[0] for name in allowed}
        assert below <= set(order[order.index(floor) + 1 :]), floor
    assert set(FLOORS) == {"pack", *rooms(kolors_core.__doc__)}


def rooms(text: str) -> set[str]:
    """What an indented table of a docstring names: `a`, and `b/c` for a line that is indented below `b/`."""
    found, folder = set(), ""
    for indent, name, slash in re.findall(r"^( {4,8})(\w+)(/?)", text, flags=re.MULTILINE):
        folder = folder if len(indent) > 4 else ""
        if slash:
            folder = f"{name}/"
        else:
            found.add(f"{folder}{name}")
    return found


def test_the_map_of_the_seam_names_every_room():
    here = {path.relative_to(SEAM).with_suffix("").as_posix() for path in SEAM.rglob("*.py")}
    text = ast.get_docstring(ast.parse((SEAM / "__init__.py").read_text(encoding="utf-8")), clean=False)
    assert rooms(text) == {room for room in here if not room.endswith("__init__")}


def test_rooms_are_read_from_a_table():
    assert rooms("Title: a thing.\n\n    a   one\n    b/\n        c   two\n    d   three\n\nEnd.") == {"a", "b/c", "d"}
