"""One ComfyUI server for all tests of this folder.

KOLORS_OTHER_PACKS names checkouts of other packs, separated as in PATH, that this server gets too: all tests of this
folder pass beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from client import KolorsGraph

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # for servers.py and vision_tower.py
sys.path.append(str(ROOT / "demo" / "train"))  # for data.py and judge.py


@pytest.fixture(scope="session")
def server(models):
    """A real ComfyUI with the pack and the tiny models; the whole session shares it."""
    import servers

    (models / "checkpoints").mkdir(parents=True, exist_ok=True)
    with servers.running(models.parent, [ROOT, *servers.OTHER_PACKS]) as client:
        yield client


@pytest.fixture(scope="session")
def plain(server):
    """The latent of the plain graph, which others are compared with."""
    graph = KolorsGraph()
    return server.latent(graph, graph.sample())


@pytest.fixture
def goes_on(server, plain) -> Iterator[None]:
    """After the test, a good prompt that is computed anew gives what it always gave."""
    yield
    server.free()
    graph = KolorsGraph()
    assert torch.equal(server.latent(graph, graph.sample()), plain)
