"""One ComfyUI server for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from client import Client, KolorsGraph

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # for vision_tower.py
sys.path.append(str(ROOT / "demo" / "train"))  # for data.py and judge.py


@pytest.fixture(scope="session")
def server(dev, models):
    """A real ComfyUI with the pack and the tiny models; the whole session shares it."""
    base = models.parent
    for folder in ("custom_nodes", "models/checkpoints"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for nodes in ("vision_tower.py", "stage_nodes.py"):  # nodes that only tests need
        shutil.copy(Path(__file__).with_name(nodes), base / "custom_nodes")
    dev.link_pack(base / "custom_nodes" / "comfyui-kolors", ROOT)
    dev.LOGS.mkdir(parents=True, exist_ok=True)
    setup = dev.Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with dev.running_server(setup, dev.Progress(2), dev.free_port()) as running:
        yield Client(running.url, base, running.log)


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
