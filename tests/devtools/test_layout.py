"""What devtools/ has to be: small modules that run before anything is installed."""

from __future__ import annotations

import ast
import sys

import pytest
from comfyui_kolors.devtools import places

MODULES = sorted((places.ROOT / "devtools").glob("*.py"))
LATER = {"start_options.py": {"torch"}, "template_layout.py": {"playwright"}}  # in the environment that was made


def imported(source: str) -> set[str]:
    """Names of the packages that a module imports, anywhere in it, but for its own."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_needs_the_standard_library_alone_and_fits_on_four_screens(path):
    source = path.read_text(encoding="utf-8")
    assert imported(source) - sys.stdlib_module_names <= LATER.get(path.name, set())
    assert len(source.splitlines()) <= 200
    assert imported("def f():\n    import torch.nn, os\n    from numpy.x import y\n") == {"torch", "os", "numpy"}


def test_every_module_has_its_tests():
    names = {path.stem for path in MODULES} - {"__init__", "places"}
    assert {path.stem.removeprefix("test_") for path in (places.ROOT / "tests" / "devtools").glob("test_*.py")} >= names


def test_dev_py_is_a_door():
    assert len((places.ROOT / "dev.py").read_text(encoding="utf-8").splitlines()) <= 40
