"""One ComfyUI server for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
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
    shutil.copy(Path(__file__).with_name("vision_tower.py"), base / "custom_nodes")  # nodes that only tests need
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
