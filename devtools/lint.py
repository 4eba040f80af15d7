"""Style, types and spelling: what needs no test to run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import places, prepare
from .side_by_side import run_side_by_side

#: What is run by a tool's name, and the section of pyproject.toml without which it is left out.
#: pyright is told where its settings are, since it looks for some in all folders above as well.
TOOLS = (
    ("ruff check", ["ruff", "check"], "tool.ruff"),
    ("ruff format", ["ruff", "format", "--check"], "tool.ruff"),
    ("pyright", ["pyright", "--project", "pyproject.toml"], "tool.pyright"),
    ("codespell", ["codespell_lib"], "tool.codespell"),
)


def run_lint(args: argparse.Namespace) -> int:
    return lint(prepare.set_up_small(args))


def lint(python: Path) -> int:
    """Runs the tools that this interpreter has; returns the worst exit code."""
    settings = (places.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    commands = {}
    for title, (module, *options), section in TOOLS:
        if f"[{section}]" in settings:
            interpreter = ["--pythonpath", python] if module == "pyright" else []
            commands[title] = [python, "-m", module, *options, *interpreter]
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PYTHONUTF8": "1"}
    return run_side_by_side(commands, environment)
