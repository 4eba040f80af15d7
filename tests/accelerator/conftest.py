"""The simulated device, built where it can be, and what the cases give on the CPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from comfyui_kolors.devtools import host

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE / "device"))  # last: its comfy_aimdo is for the processes that are started

#: Cells of each mode that ran.
MATRIX = pytest.StashKey[dict]()


def pytest_configure(config):
    config.stash[MATRIX] = {}


@pytest.fixture(scope="session")
def matrix(request) -> dict:
    """Where the modes put their cells, for the table at the end."""
    return request.config.stash[MATRIX]


@pytest.fixture(scope="session")
def build_device() -> Callable[[str], Path]:
    """Builds the device of a kind once, or skips and says why it cannot be built here."""
    from fake_accelerator import build

    def make(kind: str) -> Path:
        reason = build.reason_against()
        return pytest.skip(reason) if reason else build.library(kind)

    return make


@pytest.fixture(scope="session")
def host_version() -> str:
    return host.host_version(Path(os.environ["COMFYUI_PATH"]))


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The base directory of all processes, so that they share their models."""
    return tmp_path_factory.mktemp("accelerator")


@pytest.fixture(scope="session")
def on_cpu(folder) -> dict:
    import modes

    return modes.run(modes.CPU, folder)


def pytest_terminal_summary(terminalreporter, config):
    if not config.stash[MATRIX]:
        return
    import compare
    from fake_accelerator.build import ROOT

    path = ROOT / ".dev" / "accelerator" / host.host_version(Path(os.environ["COMFYUI_PATH"])) / "table.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = compare.table(config.stash[MATRIX])
    path.write_text(text, encoding="utf-8")
    terminalreporter.write_line(f"\n{text}\nThis table: {path}")
