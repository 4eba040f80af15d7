"""devtools/front_end.py."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
from comfyui_kolors.devtools import front_end, places
from comfyui_kolors.devtools.front_end import get_newest_front_end, version
from comfyui_kolors.devtools.progress import Progress, SetupError

PYTHON = Path(sys.executable)


def put(number: str, folder: Path | None = None) -> Path:
    """A wheel as the package index has it."""
    folder = folder or places.DEV / "front-ends"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"comfyui_frontend_package-{number}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("comfyui_frontend_package/static/index.html", number)
    return wheel


@pytest.fixture
def index(monkeypatch):
    """What `pip download` does: nothing at first."""
    asked = []

    def run_logged(step, command, log, todo):
        asked.append(command)
        for number in index.brings:
            put(number, command[command.index("--dest") + 1])
        if index.fails:
            raise SetupError("no network\nmore")

    def index():
        return asked

    index.brings, index.fails = [], False
    monkeypatch.setattr(front_end, "run_logged", run_logged)
    return index


def test_the_newest_is_brought_and_unpacked_once(home, index):
    index.brings = ["1.9.2"]
    page = get_newest_front_end(PYTHON, Progress(1))
    assert (page / "index.html").read_text() == "1.9.2" and front_end.PACKAGE in index()[0]
    (page / "index.html").write_text("kept")
    assert get_newest_front_end(PYTHON, Progress(1)) == page and (page / "index.html").read_text() == "kept"
    index.brings = ["1.58.1"]  # newer, though not in the order of letters
    assert (get_newest_front_end(PYTHON, Progress(1)) / "index.html").read_text() == "1.58.1"


def test_without_the_index_it_is_the_newest_that_is_here(home, index, capsys):
    index.fails = True
    with pytest.raises(SetupError, match="No comfyui-frontend-package could be brought"):
        get_newest_front_end(PYTHON, Progress(1))
    put("1.2.3")
    assert (get_newest_front_end(PYTHON, Progress(1)) / "index.html").read_text() == "1.2.3"
    assert "no network Taking the newest that is here." in capsys.readouterr().err


def test_only_wheels_of_the_package_have_a_version():
    assert version(Path("comfyui_frontend_package-1.58.1-py3-none-any.whl")) == (1, 58, 1)
    assert version(Path("comfyui_frontend_package-1.58.1-py3-none-any")) == ()
    assert version(Path("other-1.0-py3-none-any.whl")) == ()
