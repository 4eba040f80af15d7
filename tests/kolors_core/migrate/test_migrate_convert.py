"""Conversion as a whole: every graph of the older packs in both file formats, and what is no graph."""

from __future__ import annotations

import json
import random

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import NotAGraph, convert_graph
from comfyui_kolors.kolors_core.migrate.shapes import SHAPES
from comfyui_kolors.kolors_core.migrate.table import TABLE
from graph_files import as_canvas, canvas_faults, kinds_of, subgraph_of
from old_graphs import GRAPHS, OldGraph, text_to_image


def test_the_graphs_hold_every_old_node():
    assert {node["class_type"] for build in GRAPHS.values() for node in build().values()} >= set(TABLE)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_converts(name, form):
    old = form(GRAPHS[name]())
    before = json.dumps(old)
    result, report = convert_graph(old)
    assert json.dumps(old) == before, "the original was changed"
    assert not set(kinds_of(result)) & set(TABLE)
    assert not report.left
    assert set(kinds_of(result)) & set(SHAPES)
    for node in (node for node in kinds_of(old) if node in TABLE):
        assert any(f": {node}" in line for line in report.mapped)
    if "nodes" in result:
        assert not canvas_faults(result)


@pytest.mark.parametrize("name", GRAPHS)
def test_both_formats_become_the_same_nodes(name):
    prompt, _ = convert_graph(GRAPHS[name]())
    canvas, _ = convert_graph(as_canvas(GRAPHS[name]()))
    assert kinds_of(prompt) == kinds_of(canvas)
    assert sum(isinstance(v, list) for node in prompt.values() for v in node["inputs"].values()) == len(canvas["links"])


def test_graphs_without_old_nodes_stay_the_same(form):
    graph = OldGraph()
    graph.save(graph.node("EmptyLatentImage", **old_graphs.TINY))
    old = form(graph)
    new, report = convert_graph(old)
    assert new == old and not report.mapped
    assert report.text().startswith("Nothing to convert")


@pytest.mark.parametrize("data", [[], {}, 3, "x", None, {"nodes": []}, {"1": {"inputs": {}}}])
def test_what_is_no_graph_is_named(data):
    with pytest.raises(NotAGraph, match="not a graph of ComfyUI"):
        convert_graph(data)


def spoil(data: object, chance: random.Random) -> None:
    """Replace or remove one value somewhere in a graph."""
    while True:
        keys = list(data) if isinstance(data, dict) else range(len(data))
        key = chance.choice(keys)
        if isinstance(data[key], (dict, list)) and data[key] and chance.random() < 0.8:
            data = data[key]
        elif chance.random() < 0.3:
            del data[key]
            return
        else:
            data[key] = chance.choice([None, -1, 7, 2.5, "x", [], {}, [1], {"a": 1}, True])
            return


@pytest.mark.parametrize("seed", range(40))
def test_damaged_graphs_convert_or_are_named(seed, form):
    chance = random.Random(seed)
    for build in GRAPHS.values():
        graph = json.loads(json.dumps(subgraph_of(text_to_image()) if build is text_to_image else form(build())))
        for _ in range(chance.randrange(1, 4)):
            spoil(graph, chance)
        try:
            result, _ = convert_graph(graph)
        except NotAGraph as error:
            assert "graph" in str(error)
        else:
            json.dumps(result)
