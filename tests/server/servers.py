"""Starts a real ComfyUI with packs of a test's choice in its custom_nodes."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from client import Client
from comfyui_kolors.devtools.folders import link_pack
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress
from comfyui_kolors.devtools.server import free_port, running_server

ROOT = Path(__file__).resolve().parents[2]
PACK_NAME = "comfyui-kolors"
TEST_NODES = ("vision_tower.py", "stage_nodes.py")  # nodes that only tests need

#: Checkouts of other packs that the shared server gets as well, separated as in PATH.
OTHER_PACKS = [Path(path).resolve() for path in os.environ.get("KOLORS_OTHER_PACKS", "").split(os.pathsep) if path]


@contextmanager
def running(base: Path, packs: Iterable[Path]) -> Iterator[Client]:
    """A server over the folder `base`, with the nodes that only tests need, and `packs`; the root is our own.

    Raises RuntimeError where the host could not import one of them.
    """
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    for nodes in TEST_NODES:
        shutil.copy(Path(__file__).with_name(nodes), base / "custom_nodes")
    for pack in packs:
        link_pack(base / "custom_nodes" / (PACK_NAME if pack == ROOT else pack.name), pack)
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with running_server(setup, Progress(2), free_port()) as server:
        client = Client(server.url, base, server.log)
        if failed := failed_imports(client.read_log()):
            raise RuntimeError(f"ComfyUI could not import {failed}; its log: {server.log}")
        yield client


def failed_imports(log: str) -> list[str]:
    """What the host says of the packs that it could not import."""
    faults = "Cannot import|Error while calling comfy_entrypoint|\\(IMPORT FAILED\\)"
    return [line for line in log.splitlines() if re.search(faults, line)]
