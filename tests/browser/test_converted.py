"""Converted canvases in the real front end: nothing is red, and it sends what the converted API graph holds."""

from __future__ import annotations

import json

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, nodes_of, subgraph_of, unfolded
from old_graphs import GRAPHS, text_to_image

pytestmark = pytest.mark.host

STATE = """() => [app.graph._nodes.filter((node) => !LiteGraph.registered_node_types[node.type])
  .map((node) => node.type), app.graph._nodes.map((node) => [node.type, ...node.pos, ...node.size])]"""


@pytest.fixture(scope="module")
def info(server) -> dict:
    return server.request("/object_info")


def sent(canvas, workflow: dict) -> dict:
    """What the front end would queue of a workflow."""
    canvas.use()
    canvas.clear()
    canvas.page.evaluate("(workflow) => app.loadGraphData(workflow)", workflow)
    canvas.settle()
    return canvas.page.evaluate("async () => (await app.graphToPrompt()).output")


@pytest.mark.parametrize("name", GRAPHS)
def test_a_converted_canvas_is_what_the_converted_prompt_is(canvas, info, name):
    graph = GRAPHS[name]()
    for node in graph.values():  # the front end chooses one of {a|b} by chance
        node["inputs"] |= {"prompt": "a|b|c"} if "{" in str(node["inputs"].get("prompt")) else {}
    prompt, _ = convert_graph(graph)
    workflow, _ = convert_graph(as_canvas(graph))
    found = sent(canvas, workflow)
    red, boxes = canvas.page.evaluate(STATE)
    assert not red
    assert unfolded(found, info) == unfolded(prompt, info)
    meeting = [
        (one[0], other[0])
        for index, one in enumerate(boxes)
        for other in boxes[:index]
        if one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
        and one[2] - 30 < other[2] + other[4]
        and other[2] - 30 < one[2] + one[4]
    ]
    assert not meeting, "nodes lie on each other"


def test_a_converted_subgraph_sends_what_it_did_without_one(canvas, info):
    workflow, report = convert_graph(subgraph_of(text_to_image()))
    assert not report.left
    prompt, _ = convert_graph(text_to_image())
    assert set(unfolded(sent(canvas, workflow), info)) == set(unfolded(prompt, info))  # saved inside and outside


def test_a_text_under_a_link_to_a_bypassed_node_is_sent(canvas):
    graph = text_to_image()
    encode = next(node["inputs"] for node in graph.values() if node["class_type"] == "MZ_ChatGLM3_V2")
    encode["text"] = graph.node("PrimitiveNode", value="from there")
    old = as_canvas(graph)
    for node in nodes_of(old, "PrimitiveNode"):  # in its place a node of the server that has nothing to pass on
        node |= {"type": "EmptyImage", "mode": 4, "widgets_values": [64, 64, 1, 0]}
    nodes_of(old, "MZ_ChatGLM3_V2")[0]["widgets_values"] = ["typed first"]
    new, _ = convert_graph(old)
    found = sent(canvas, new)
    assert sorted(node["inputs"].get("text", "") for node in found.values())[-1] == "typed first"


def test_a_converted_frame_holds_the_nodes_that_it_held(canvas):
    old = as_canvas(old_graphs.kijai("a|b"))
    old["groups"] = [{"title": "g", "bounding": [-60, -60, 700, 900], "color": "#3f789e", "font_size": 24, "flags": {}}]
    new, _ = convert_graph(json.loads(json.dumps(old)))
    members = []
    for workflow in (old, new):
        sent(canvas, workflow)
        members.append(
            canvas.page.evaluate(
                "() => { const group = app.graph._groups[0]; group.recomputeInsideNodes();"
                " return [...group._children].filter((one) => one.type).map((one) => one.id); }"
            )
        )
    there = {node["id"] for node in new["nodes"]}
    assert members[0] and set(members[0]) & there <= set(members[1])
