"""How the tests find the pack, the host, the tokenizer and a running server.

The repository root is a ComfyUI pack with a `nodes` folder, while the host has a `nodes.py`: the root must not be on
sys.path. So the pack is loaded under an alias, as the host itself loads it, and tests import `comfyui_kolors...`.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALIAS = "comfyui_kolors"
COMFYUI = os.environ.get("COMFYUI_PATH")
TOKENIZER_PLACES = (os.environ.get("KOLORS_TOKENIZER"), ROOT.parent / "shared/data/chatglm3/tokenizer.model")


# The models of the tests are tiny: more threads than one only wait for each other, here and in the server.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _load_alias() -> None:
    """Make the root importable as a package without running its __init__, which needs the host."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    package = types.ModuleType(ALIAS)
    package.__path__ = [str(ROOT)]
    sys.modules[ALIAS] = package


def _enter_host() -> None:
    """Make the host's modules importable, on the CPU where there is nothing else, with folders away from the user's."""
    import torch

    sys.path.insert(0, COMFYUI)
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    args.base_directory = tempfile.mkdtemp(prefix="kolors-host-")
    atexit.register(shutil.rmtree, args.base_directory, ignore_errors=True)


sys.path.insert(0, str(Path(__file__).parent))  # for client.py
_load_alias()
if COMFYUI:
    _enter_host()
    if os.environ.get("KOLORS_DYNAMIC_VRAM"):
        import dynamic_vram

        dynamic_vram.switch_on()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)  # last: an open page draws on
    skip = pytest.mark.skip(reason="no ComfyUI: run python3 dev.py test, or set COMFYUI_PATH to one")
    for item in items:
        if item.get_closest_marker("host") and not COMFYUI:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def tokenizer_file() -> Path:
    """ChatGLM3's real tokenizer.model; third-party data, so it is not part of the repository."""
    found = next((Path(place) for place in TOKENIZER_PLACES if place and Path(place).is_file()), None)
    return found or pytest.skip("no tokenizer.model of ChatGLM3: set KOLORS_TOKENIZER to its path")


@pytest.fixture(scope="session")
def dev():
    """dev.py as a module."""
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["dev"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A models folder with the tiny random Kolors; shared, so a test that adds files gives them names of its own."""
    from comfyui_kolors.demo import random_models

    folder = tmp_path_factory.mktemp("base") / "models"
    random_models.write(folder)
    return folder
