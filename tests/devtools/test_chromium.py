"""devtools/chromium.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import chromium
from comfyui_kolors.devtools.progress import SetupError

PYTHON = Path(sys.executable)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for programs are shell scripts")


@pytest.fixture
def machine(home, monkeypatch):
    """A machine without a browser; a command that installs one puts it where it is looked for, unless it fails."""
    state = {"fails": set(), "run": [], "root": True}

    def run_logged(step, command, log, todo):
        name = Path(command[0]).name
        state["run"].append(name)
        if name in state["fails"]:
            raise SetupError(f"{name} found no network\nmore")
        if name == "apt-get" and command[1] == "install":
            program(home, "chromium", 0)
        elif name != "apt-get":
            (home / "own").touch()

    program(home, "apt-get", 0)
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr(chromium, "run_logged", run_logged)
    monkeypatch.setattr(chromium, "python_says", lambda python, code: str(home / "own"))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if state["root"] else 1000)
    return state


def program(folder: Path, name: str, code: int) -> None:
    (folder / name).write_text(f"#!/bin/sh\nexit {code}\n")
    (folder / name).chmod(0o755)


def bring(capsys) -> str:
    chromium.get_chromium(PYTHON)
    return capsys.readouterr().err


def test_a_browser_that_is_there_is_used(machine, home, capsys):
    program(home, "chromium-browser", 0)
    assert f"{home / 'chromium-browser'} in place" in bring(capsys) and not machine["run"]


def test_root_gets_the_package_of_the_system(machine, capsys):
    assert "about 100 MB" in bring(capsys) and machine["run"] == ["apt-get", "apt-get"]


def test_others_get_the_browser_of_playwright(machine, capsys):
    machine["root"] = False
    assert "about 170 MB" in bring(capsys) and machine["run"] == [PYTHON.name]


def test_a_script_in_place_of_a_browser_is_none(machine, home, capsys):
    """As Ubuntu's, which asks for a snap."""
    program(home, "chromium-browser", 1)
    machine["root"] = False
    bring(capsys)
    assert machine["run"] == [PYTHON.name] and chromium.find_chromium(PYTHON) == str(home / "own")


def test_a_browser_that_cannot_be_had_stops_nothing(machine, capsys):
    machine["fails"] = {"apt-get", PYTHON.name}
    shown = bring(capsys)
    assert "apt-get found no network" in shown and "none; the tests in a browser are skipped" in shown
