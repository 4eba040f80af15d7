"""The house that the contract is about: its files, and what several of its rules read out of them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACK = [ROOT / "__init__.py", *sorted((ROOT / "nodes").rglob("*.py")), *sorted((ROOT / "kolors_core").rglob("*.py"))]
SEAM = ROOT / "kolors_core" / "host"
LANGUAGES = ("en", "zh")

HOST_MODULES = re.compile(r"(comfy\w*|folder_paths|latent_preview|server|nodes|execution|node_helpers|app)$")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def name_of(value: object) -> str | None:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else getattr(value, "__name__", None)


def called_name(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def imported_modules(tree: ast.AST) -> list[tuple[str, int]]:
    """Top-level name and line of every absolute import, by statement or by function."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.module, node.lineno))
        elif isinstance(node, ast.Call) and called_name(node) in ("import_module", "__import__") and node.args:
            found.append((str(getattr(node.args[0], "value", "")), node.lineno))
    return [(name.split(".")[0], line) for name, line in found]


def node_classes(tree: ast.AST) -> list[str]:
    """Classes that declare inputs."""
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return [c.name for c in classes if any(getattr(part, "name", "") == "INPUT_TYPES" for part in c.body)]


def our_classes() -> list[str]:
    files = sorted((ROOT / "nodes").glob("*.py"))
    return [name for file in files for name in node_classes(ast.parse(file.read_text(encoding="utf-8")))]


def locale(language: str, name: str) -> dict:
    return json.loads((ROOT / "locales" / language / name).read_text(encoding="utf-8"))


def flatten(texts: object, path: str = "") -> dict[str, str]:
    """{"a": {"b": "x"}} as {"a.b": "x"}; items of a list by their number."""
    if isinstance(texts, list):
        texts = dict(enumerate(texts))
    if not isinstance(texts, dict):
        return {path: texts}
    parts = (flatten(value, f"{path}.{key}" if path else str(key)) for key, value in texts.items())
    return {key: value for part in parts for key, value in part.items()}


def tracked_files() -> list[Path]:
    """The files of the repository, new ones too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout, so nothing says which files belong to it")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
