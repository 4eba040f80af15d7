"""One server through many mixed prompts: it holds no more at the end, and draws the same."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from client import Client

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]
PROMPTS, LONG_PROMPTS = 72, 300
MEMORY, LONG_MEMORY = 60.0, 10.0  # MiB per 100 prompts; the shorter the run, the more the allocator's noise counts


@pytest.fixture(scope="module")
def server(dev, tmp_path_factory):
    """A server of its own, which only these prompts have used."""
    from comfyui_kolors.demo import random_models

    base = tmp_path_factory.mktemp("soak")
    (base / "custom_nodes").mkdir()
    random_models.write(base / "models")
    nodes = ROOT / "tests" / "server"
    for file in (nodes / "vision_tower.py", nodes / "stage_nodes.py", Path(__file__).with_name("watch_nodes.py")):
        shutil.copy(file, base / "custom_nodes")
    dev.link_pack(base / "custom_nodes" / "comfyui-kolors", ROOT)
    setup = dev.Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with dev.running_server(setup, dev.Progress(2), dev.free_port()) as running:
        yield Client(running.url, base, running.log)


def test_many_mixed_prompts_leave_nothing_behind(server, long, write_report):
    from soak import faults, soak, write_files

    write_files(server)
    figures = soak(server, LONG_PROMPTS if long else PROMPTS)
    write_report("soak", figures)
    assert not faults(figures, LONG_MEMORY if long else MEMORY)


def test_the_rules_of_the_soak_find_faults():
    """A model that stays, a file that stays open, memory that grows, and other bytes at the end."""
    from soak import FAILING, KINDS, faults, summarize

    def digest(kind, ending):
        return FAILING.get(kind, ending * 64)

    def run(ending="a", **growth):
        start = {"memory": 1 << 30, "files": 20, "threads": 10, "patchers": 0, "modules": 0, "loaded": 0}
        seen = [
            (prompts, {name: value + int(growth.get(name, 0) * prompts / 100) for name, value in start.items()})
            for prompts in range(len(KINDS), 300, 10)
        ]
        rounds = [{kind: digest(kind, letter) for kind in KINDS} for letter in ("a", ending)]
        return faults(summarize(300, seen, rounds), memory=10.0)

    assert run() == []
    assert run(memory=5 << 20) == []
    assert run(memory=12 << 20) == ["memory grows by 12.0 MiB per 100 prompts"]
    assert run(patchers=1) == ["patchers grew from 0 to 2"]
    assert [fault.split()[0] for fault in run(files=10, threads=10)] == ["files", "threads"]
    assert len(run(ending="b")) == len(KINDS) - len(FAILING)
    assert "text: an error" in faults(
        summarize(24, [(24, dict.fromkeys(("memory", "files", "threads", "patchers", "modules", "loaded"), 1))],
                  [dict.fromkeys(KINDS, "an error")]), 10.0
    )  # fmt: skip
