"""A hub on this machine, and the catalog with small files in the place of the published ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import small_catalog
from comfyui_kolors.kolors_core.models import catalog, download, get
from hub import Hub


@pytest.fixture
def hub(monkeypatch):
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def contents() -> dict[str, bytes]:
    """What is in a file of the hub, by the file's name; of the others anything."""
    return {}


@pytest.fixture
def files(hub, contents, monkeypatch):
    """The catalog by name with small files, which the hub has."""
    for module in (catalog, get):
        for name in ("FILES", "TOKENIZER", "SHARDS"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(module, name))
    by_name = dict(catalog.BY_NAME)
    small = small_catalog.offer(hub, catalog.FILES, contents)
    small_catalog.install(catalog, get, small, small_catalog.offer(hub, catalog.SHARDS, contents))
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=lambda seconds: None))
    yield dict(catalog.BY_NAME)
    catalog.BY_NAME.clear()
    catalog.BY_NAME.update(by_name)


@pytest.fixture
def root(tmp_path):
    """A ComfyUI without models."""
    (tmp_path / "ComfyUI/models").mkdir(parents=True)
    return tmp_path / "ComfyUI"
