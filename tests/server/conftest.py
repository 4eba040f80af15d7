"""One ComfyUI server for all tests of this folder.

KOLORS_OTHER_PACKS names checkouts of other packs, separated as in PATH, that this server gets too: all tests of this
folder pass beside them.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from client import KolorsGraph, Link, PromptError
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # for adapters.py, other_models.py, servers.py and vision_tower.py
sys.path.append(str(ROOT / "demo" / "train"))  # for data.py and judge.py

import adapters  # noqa: E402


@pytest.fixture(scope="session")
def server(models):
    """A real ComfyUI with the pack and the tiny models; the whole session shares it."""
    import servers

    (models / "checkpoints").mkdir(parents=True, exist_ok=True)
    with servers.running(models.parent, [ROOT, *servers.OTHER_PACKS]) as client:
        yield client


@pytest.fixture(scope="session")
def migrating(tmp_path_factory):
    """A ComfyUI for converted graphs; the whole session shares it."""
    import migrated

    with migrated.running(tmp_path_factory.mktemp("migration")) as client:
        yield client


@pytest.fixture(scope="session")
def plain(server):
    """The latent of the plain graph, which others are compared with."""
    graph = KolorsGraph()
    return server.latent(graph, graph.sample())


@pytest.fixture(scope="session")
def compute_anew(server) -> Callable[[KolorsGraph], torch.Tensor]:
    """The latent of a graph's model with the plain graph's settings, which the host cannot take out of its cache."""
    serial = itertools.count(1)

    def compute(graph: KolorsGraph) -> torch.Tensor:
        # zeros times a number that no prompt has had
        latent = graph.add("LatentMultiply", samples=graph.empty_latent(), multiplier=next(serial) / 1000)
        return server.latent(graph, graph.sample(latent=latent))

    return compute


@pytest.fixture(scope="module")
def loads_again(server, plain) -> Iterator[None]:
    """After the last test of a file, the models are loaded anew and give what they always gave."""
    yield
    server.free()
    graph = KolorsGraph()
    assert torch.equal(server.latent(graph, graph.sample()), plain)


@pytest.fixture
def goes_on(loads_again, compute_anew, plain) -> Iterator[None]:
    """After the test, a good prompt that is computed anew gives what it always gave."""
    yield
    assert torch.equal(compute_anew(KolorsGraph()), plain)


@pytest.fixture
def put(server) -> Iterator[Callable[[str, str, bytes | dict], Path]]:
    """Writes a file into a models folder, and removes it after the test. Of tensors as the name's ending asks."""
    paths = []

    def write(folder: str, name: str, content: bytes | dict) -> Path:
        path = server.base / "models" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.append(path)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".bin":
            torch.save(content, path)
        else:
            save_file(content, path)
        return path

    yield write
    for path in paths:
        path.unlink(missing_ok=True)


# ---- IP-Adapters ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def styled(server) -> torch.Tensor:
    """The latent of the plain graph with an IP-Adapter; its file and others are there from then on."""
    adapters.write(server.base)
    return adapters.draw(server, adapters.PictureGraph.apply)


@pytest.fixture
def refuse(server, loads_again, compute_anew, styled) -> Callable[..., str]:
    """Runs a graph whose model `change` makes, for its error; then the good graph, which is computed anew."""

    def run(change: Callable[[adapters.PictureGraph], Link], node: str, kind: str = "KolorsError") -> str:
        with pytest.raises(PromptError) as failure:
            adapters.draw(server, change)
        assert (failure.value.kind, failure.value.node) == (kind, node), failure.value
        graph = adapters.PictureGraph()
        graph.model = graph.apply()
        assert torch.equal(compute_anew(graph), styled)
        return str(failure.value)

    return run
