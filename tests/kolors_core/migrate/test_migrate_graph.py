"""Values that an input cannot hold, and links through reroutes."""

from __future__ import annotations

import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, canvas_faults, nodes_of
from old_graphs import kijai, text_to_image


def test_values_of_another_kind_become_the_default(form):
    result, report = convert_graph(form(kijai(steps="many", scheduler="LCM", cfg=1000)))
    (node,) = nodes_of(result, "KolorsKSampler")
    assert (
        node["widgets_values"][2:5] if "nodes" in result else [node["inputs"][n] for n in ("steps", "cfg", "sampler")]
    ) == [
        25,
        100,
        "euler",
    ]
    notes = "\n".join(report.notes)
    assert "'many'" in notes and "1000" in notes and "LCM" in notes


@pytest.mark.parametrize("count", [1, 3])
def test_reroutes_of_types_that_change_go(count):
    graph = kijai()
    model = ["1", 0]
    for _ in range(count):
        model = graph.node("Reroute", **{"": model})
    embeds = graph.node("Reroute", **{"": ["3", 0]})
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "KolorsSampler")
    sampler |= {"kolors_model": model, "kolors_embeds": embeds}
    new, report = convert_graph(as_canvas(graph))
    assert not canvas_faults(new) and not report.left
    assert not nodes_of(new, "Reroute")
    assert not [line for line in report.notes if "not connected" in line]
    (sampler,) = nodes_of(new, "KolorsKSampler")
    (loader,) = nodes_of(new, "KolorsUNETLoader")
    assert sampler["inputs"][0]["name"] == "model" and loader["outputs"][0]["links"] == [sampler["inputs"][0]["link"]]


def test_reroutes_of_other_types_stay():
    graph = text_to_image()
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "KSampler")
    sampler["model"] = graph.node("Reroute", **{"": sampler["model"]})
    new, _ = convert_graph(as_canvas(graph))
    assert len(nodes_of(new, "Reroute")) == 1 and not canvas_faults(new)


def test_a_ring_of_reroutes_ends(form):
    graph = text_to_image()
    encode = next(node["inputs"] for node in graph.values() if node["class_type"] == "MZ_ChatGLM3_V2")
    first = graph.node("Reroute")
    second = graph.node("Reroute", **{"": first})
    graph[first[0]]["inputs"][""] = second
    encode["chatglm3_model"] = second
    _, report = convert_graph(form(graph))
    assert any("clip" in line and "not connected" in line for line in report.notes)
