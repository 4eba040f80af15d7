"""One server through many mixed prompts: it holds no more at the end, and draws the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]
PROMPTS, LONG_PROMPTS = 120, 300
# MiB per 100 prompts. The shorter the run, the more one step of the allocator looks like growth: over 24 prompts after
# the first two rounds 5 to 45 were seen, with nothing that stays.
MEMORY, LONG_MEMORY = 40.0, 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own, which only these prompts have used."""
    import servers
    from comfyui_kolors.demo import random_models

    base = tmp_path_factory.mktemp("soak")
    random_models.write(base / "models")
    (base / "custom_nodes").mkdir()
    shutil.copy(Path(__file__).with_name("watch_nodes.py"), base / "custom_nodes")
    with servers.running(base, [ROOT]) as client:
        yield client


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
