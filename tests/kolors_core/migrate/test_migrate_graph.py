"""Values that an input cannot hold, and links through reroutes."""

from __future__ import annotations

import cProfile

import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from comfyui_kolors.kolors_core.migrate.shapes import SHAPES
from graph_files import as_canvas, canvas_faults, nodes_of
from old_graphs import OldGraph, kijai, text_to_image


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 2**64, 10**30, "25", None, True, [], {}, 1e18])
def test_numbers_beyond_every_range_are_brought_into_it(value):
    for name in ("seed", "cfg", "width", "steps"):
        prompt, _ = convert_graph(kijai(**{name: value}))
        for kind in ("KolorsKSampler", "EmptyLatentImage"):
            for one in SHAPES[kind].inputs:
                if one.limits:
                    found = nodes_of(prompt, kind)[0]["inputs"].get(one.name, one.default)
                    assert one.limits[0] <= found <= one.limits[1], (kind, one.name)


@pytest.mark.parametrize("count", [1, 3])
def test_reroutes_stay_unless_what_they_pass_on_goes(count):
    graph = kijai()
    model = ["1", 0]
    for _ in range(count):
        model = graph.node("Reroute", **{"": model})
    embeds = graph.node("Reroute", **{"": ["3", 0]})
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "KolorsSampler")
    sampler |= {"kolors_model": model, "kolors_embeds": embeds}
    new, report = convert_graph(as_canvas(graph))
    assert not canvas_faults(new) and not report.left
    assert not [line for line in report.notes if "not connected" in line or "gets nothing" in line]
    reroutes = nodes_of(new, "Reroute")
    assert [str(node["id"]) for node in reroutes] == [str(int(embeds[0]) - count + i) for i in range(count)]
    assert all(one["type"] in ("*", "MODEL") for node in reroutes for one in [*node["inputs"], *node["outputs"]])
    (sampler,) = nodes_of(new, "KolorsKSampler")
    assert (
        sampler["inputs"][0]["name"] == "model" and sampler["inputs"][0]["link"] in reroutes[-1]["outputs"][0]["links"]
    )


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


def test_what_was_typed_under_a_link_stays():
    """The front end sends it where the link leads to a bypassed node."""
    graph = text_to_image()
    encode = next(node["inputs"] for node in graph.values() if node["class_type"] == "MZ_ChatGLM3_V2")
    encode["text"] = graph.node("easy showAnything")
    old = as_canvas(graph)
    for node in old["nodes"]:
        if node["type"] == "easy showAnything":
            node["mode"] = 4
    nodes_of(old, "MZ_ChatGLM3_V2")[0]["widgets_values"] = ["typed first"]
    new, _ = convert_graph(old)
    node = nodes_of(new, "KolorsPromptEncode")[0]
    assert node["widgets_values"][0] == "typed first"
    assert next(one for one in node["inputs"] if one["name"] == "text")["link"]


def test_numbers_typed_under_a_link_are_fitted():
    graph = kijai(steps=["99", 0])
    graph["99"] = {"class_type": "PrimitiveNode", "inputs": {"value": 20}}
    old = as_canvas(graph)
    nodes_of(old, "KolorsSampler")[0]["widgets_values"][4] = 100000
    new, _ = convert_graph(old)
    assert nodes_of(new, "KolorsKSampler")[0]["widgets_values"][2] == 1000


@pytest.mark.parametrize("name", ["chatglm3_model", "kolors_embeds"])
def test_set_and_get_connect(name):
    graph = kijai()
    source = {"chatglm3_model": ["2", 0], "kolors_embeds": ["3", 0]}[name]
    graph.node("SetNode", value=source, Constant="shared")
    got = graph.node("GetNode", Constant="shared")
    next(node["inputs"] for node in graph.values() if name in node["inputs"])[name] = got
    new, report = convert_graph(as_canvas(graph))
    assert not canvas_faults(new) and not report.left
    assert not [line for line in report.notes if "not connected" in line or "gets nothing" in line]
    kept = 1 if name == "chatglm3_model" else 0
    assert len(nodes_of(new, "SetNode")) == len(nodes_of(new, "GetNode")) == kept
    if kept:
        (setter,), (getter,) = nodes_of(new, "SetNode"), nodes_of(new, "GetNode")
        links = {node["inputs"][0]["link"] for node in nodes_of(new, "KolorsPromptEncode")}
        assert set(getter["outputs"][0]["links"]) == links and setter["inputs"][0]["link"]


def test_a_get_without_its_set_is_said():
    graph = text_to_image()
    got = graph.node("GetNode", Constant="gone")
    for node in graph.values():
        if "chatglm3_model" in node["inputs"]:
            node["inputs"]["chatglm3_model"] = got
    _, report = convert_graph(as_canvas(graph))
    assert sum("clip of KolorsPromptEncode is not connected" in line for line in report.notes) == 2


def test_the_work_grows_with_the_nodes_alone(form):
    """Counted in calls, which are the same on every machine."""

    def calls(copies: int) -> int:
        size, whole = len(text_to_image()), OldGraph()
        for start in range(0, copies * size, size):
            for key, node in text_to_image().items():
                inputs = {name: [str(int(value[0]) + start), value[1]] if isinstance(value, list) else value
                          for name, value in node["inputs"].items()}  # fmt: skip
                whole[str(int(key) + start)] = node | {"inputs": inputs}
        graph, profile = form(whole), cProfile.Profile()
        profile.runcall(convert_graph, graph)
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(80) < 2.2 * calls(40)
