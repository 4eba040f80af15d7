"""devtools/lint.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import lint, places

PYTHON = Path(sys.executable)


@pytest.fixture
def commands(home, monkeypatch) -> dict[str, list[str]]:
    """What would be run, in a repository whose pyproject.toml names ruff alone."""
    found: dict[str, list[str]] = {}
    (home / "pyproject.toml").write_text("[tool.ruff]\n")
    monkeypatch.setattr(places, "ROOT", home)
    monkeypatch.setattr(lint, "run_side_by_side", lambda commands, environment: found.update(commands) or 7)
    return found


def test_the_tools_that_the_repository_has_settings_for_are_run(home, commands):
    assert lint.lint(PYTHON) == 7 and list(commands) == ["ruff check", "ruff format"]
    (home / "pyproject.toml").write_text("[tool.ruff]\n[tool.pyright]\n[tool.codespell]\n")
    lint.lint(PYTHON)
    assert list(commands) == ["ruff check", "ruff format", "pyright", "codespell"]
    assert commands["pyright"][-4:] == ["--project", "pyproject.toml", "--pythonpath", PYTHON]


def test_this_repository_has_all_of_them():
    settings = (places.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = (places.ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    for title, _, section in lint.TOOLS:
        assert f"[{section}]" in settings and f"\n{title.split()[0]}" in required
