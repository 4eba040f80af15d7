"""The graphs that a real server writes into its files and tells in its history, read by the converter."""

from __future__ import annotations

import json

import pytest
from client import Graph, KolorsGraph
from comfyui_kolors.kolors_core.migrate import convert_graph
from comfyui_kolors.kolors_core.migrate.embedded import read_graph
from graph_files import as_canvas
from old_graphs import text_to_image

pytestmark = pytest.mark.host

SAVED = {
    "SaveImage": {},
    "SaveAnimatedPNG": {"fps": 6.0, "compress_level": 4},
    "SaveAnimatedWEBP": {"fps": 6.0, "lossless": True, "quality": 80, "method": "default"},
}


@pytest.fixture(scope="module")
def canvas() -> dict:
    """The canvas of an old graph, which the request brings along as the front end does."""
    return as_canvas(text_to_image())


@pytest.fixture(scope="module")
def entry(server, canvas) -> dict:
    """What the server's history tells of a graph that saves files of every kind."""
    graph = KolorsGraph()
    image = graph.add("EmptyImage", width=32, height=32, batch_size=2, color=7)
    for kind, settings in SAVED.items():
        graph.add(kind, images=image, filename_prefix=f"saved/{kind}", **settings)
    graph.add("SaveLatent", samples=graph.empty_latent(32, 32), filename_prefix="saved/latent")
    request = {"prompt": graph, "extra_data": {"extra_pnginfo": {"workflow": canvas}}}
    id = server.request("/prompt", request)["prompt_id"]
    return {id: server.wait(id)}


def saved_files(server, entry: dict) -> list:
    (outputs,) = (one["outputs"].values() for one in entry.values())
    told = [file for output in outputs for files in output.values() if isinstance(files, list) for file in files]
    return [server.base / "output" / one["subfolder"] / one["filename"] for one in told if isinstance(one, dict)]


def test_every_file_of_the_server_holds_its_canvas(server, entry, canvas):
    paths = saved_files(server, entry)
    assert {path.suffix for path in paths} == {".png", ".webp", ".latent"} and len(paths) >= 5
    for path in paths:
        assert json.loads(read_graph(path.read_bytes()) or "") == canvas, path.name


def test_the_history_of_the_server_is_read(entry, canvas):
    result, report = convert_graph(entry)
    assert result == convert_graph(canvas)[0] and report.mapped


def test_the_history_of_a_prompt_without_canvas_is_read(server):
    graph = Graph()
    graph.add("PreviewImage", images=graph.add("EmptyImage", width=32, height=32, batch_size=1, color=3))
    id = server.queue(graph)
    result, _ = convert_graph({id: server.wait(id)})
    assert result == dict(graph)
