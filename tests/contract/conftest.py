"""The nodes as ComfyUI sees them."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def mappings() -> SimpleNamespace:
    importlib.import_module(
        "comfyui_kolors.kolors_core.host.model_files"
    ).register()  # as the pack's __init__ does first
    module = importlib.import_module("comfyui_kolors.nodes")
    return SimpleNamespace(classes=module.NODE_CLASS_MAPPINGS, titles=module.NODE_DISPLAY_NAME_MAPPINGS)
