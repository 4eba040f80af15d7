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


def _enter_host() -> str:
    """Make the host's modules importable, as `main.py` starts with KOLORS_HOST_FLAGS, with folders of its own.

    An accelerator computes in float32 without TF32 unless the options choose a precision: that is what the reference
    is compared in. Returns the kind of device. Raises SystemExit with the host's words for an option it does not know.
    """
    import torch
    from comfyui_kolors.devtools import start_options

    sys.path.insert(0, COMFYUI)
    import comfy.options

    options, kind = start_options.given(), start_options.accelerator()
    options += start_options.device(kind, options)
    if "--cpu" in options:
        kind = "cpu"
    elif chosen := start_options.float32(options):
        options += chosen
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    base = tempfile.mkdtemp(prefix="kolors-host-")
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    ours, sys.argv = sys.argv, [start_options.VARIABLE, "--base-directory", base, *options]
    try:
        comfy.options.enable_args_parsing()
        importlib.import_module("comfy.cli_args")
    finally:
        comfy.options.enable_args_parsing(False)
        sys.argv = ours
    return kind


def leave_precision_to_host() -> None:
    """Take back float32 where `_enter_host` chose it; for what is measured as users run it."""
    import torch
    from comfy.cli_args import args
    from comfyui_kolors.devtools import start_options

    for option in start_options.float32(start_options.given()):
        setattr(args, option.removeprefix("--").replace("-", "_"), False)
    torch.backends.cudnn.allow_tf32 = True  # as torch begins


sys.path.insert(0, str(Path(__file__).parent))  # for client.py
_load_alias()
DEVICE = _enter_host() if COMFYUI else "cpu"
if COMFYUI and os.environ.get("KOLORS_DYNAMIC_VRAM"):
    if DEVICE == "cpu":  # a stand-in for comfy-aimdo, which reads the host's files and needs a driver
        sys.path.insert(0, str(Path(__file__).parent / "accelerator" / "device"))
    import dynamic_vram

    dynamic_vram.switch_on()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)  # last: an open page draws on
    missing = {
        "host": not COMFYUI and "no ComfyUI: run python3 dev.py test, or set COMFYUI_PATH to one",
        "gpu": DEVICE == "cpu" and "no accelerator: ComfyUI computes on the CPU here",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def device() -> str:
    """The kind of device that the host computes on, here and in the servers of the tests: cpu, cuda, xpu, ..."""
    return DEVICE


@pytest.fixture
def host_defaults(monkeypatch) -> None:
    """The precisions that the host chooses where nobody asks it for one, as the tests do on an accelerator."""
    from comfy.cli_args import args

    for part in ("unet", "vae", "text_enc"):
        monkeypatch.setattr(args, f"fp32_{part}", False)


@pytest.fixture(scope="session")
def tokenizer_file() -> Path:
    """ChatGLM3's real tokenizer.model; third-party data, so it is not part of the repository."""
    found = next((Path(place) for place in TOKENIZER_PLACES if place and Path(place).is_file()), None)
    return found or pytest.skip("no tokenizer.model of ChatGLM3: set KOLORS_TOKENIZER to its path")


@pytest.fixture(scope="session")
def mappings() -> types.SimpleNamespace:
    """The nodes as ComfyUI sees them."""
    files = importlib.import_module(f"{ALIAS}.kolors_core.host.model_files")
    files.register()  # as the pack's __init__ does first
    module = importlib.import_module(f"{ALIAS}.nodes")
    return types.SimpleNamespace(classes=module.NODE_CLASS_MAPPINGS, titles=module.NODE_DISPLAY_NAME_MAPPINGS)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A models folder with the tiny random Kolors; shared, so a test that adds files gives them names of its own."""
    from comfyui_kolors.demo import random_models

    folder = tmp_path_factory.mktemp("base") / "models"
    random_models.write(folder)
    return folder
