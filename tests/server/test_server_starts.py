"""Servers started in other ways: with little memory, without caches, and after one that was killed."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from client import Client, KolorsGraph, PromptError
from comfyui_kolors.devtools import server as devtools_server
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]
LITTLE_CACHE = ("--cache-lru", "1")
FLAGS = (
    ("--cache-none", "--disable-smart-memory"),
    pytest.param(("--lowvram",), marks=pytest.mark.gpu),  # the host takes it or --cpu
    pytest.param(("--novram",), marks=pytest.mark.gpu),
)


@contextmanager
def started(base: Path, *flags: str):
    """A server of its own over the folders of the shared one, and its process."""
    command = devtools_server.server_command
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devtools_server, "server_command", lambda *given: [*command(*given), *flags])
        with devtools_server.running_server(setup, Progress(2), devtools_server.free_port()) as running:
            yield Client(running.url, base, running.log), running.process


class OnOneDevice(KolorsGraph):
    """The plain graph with its encoder on the CPU, where --lowvram and --novram have it whatever the card can hold."""

    def __init__(self):
        super().__init__()
        self[self.clip[0]]["inputs"]["device"] = "cpu"


@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_a_server_with_little_memory_or_cache_gives_the_same_bytes(server, flags):
    graph = OnOneDevice()
    expected = server.latent(graph, graph.sample())
    with started(server.base, *flags) as (client, _):
        check_good_bad_good(client, OnOneDevice, expected)


def check_good_bad_good(client, graph_of: type[KolorsGraph], expected: torch.Tensor) -> None:
    """A bad prompt between two good ones, which both give what is expected."""
    for good in (True, False, True):
        graph = graph_of()
        if good:
            assert torch.equal(client.latent(graph, graph.sample()), expected)
        else:
            with pytest.raises(PromptError, match="needs text embeddings of width 64"):
                wrong = graph.add("KolorsTestWidths", width=2048, pooled_width=1280)
                client.latent(graph, graph.sample(wrong))
            client.free()


def test_a_server_killed_in_the_middle_of_a_prompt_starts_again(server, plain):
    """With a smaller cache than before, which changes nothing either."""
    conditionings = server.base / "output" / "conditioning"
    with started(server.base) as (client, process):
        graph = KolorsGraph()
        prompt, name = graph.encode(), "conditioning/killed"
        graph.add("KolorsConditioningSave", conditioning=prompt, filename_prefix=name, precision="fp32")
        client.save_latent(graph, graph.sample(steps=1000))
        client.queue(graph)
        deadline = time.monotonic() + 60
        while not list(conditionings.glob("killed*.safetensors")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.wait()
        with pytest.raises(OSError):
            client.request("/queue")
    with started(server.base, *LITTLE_CACHE) as (client, _):
        check_good_bad_good(client, KolorsGraph, plain)
        graph = KolorsGraph()
        (saved,) = conditionings.glob("killed*")
        name = f"conditioning/{saved.name} [output]"
        loaded = graph.add("KolorsConditioningLoad", conditioning_name=name)
        assert torch.equal(client.latent(graph, graph.sample(loaded)), plain)
