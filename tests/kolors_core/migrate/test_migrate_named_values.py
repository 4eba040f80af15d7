"""Widget values by name, and those that the box of a subgraph shows, as today's front ends write them."""

from __future__ import annotations

import json

import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from comfyui_kolors.kolors_core.migrate.shapes import SHAPES
from graph_files import as_canvas, canvas_faults, nodes_of, subgraph_of
from old_graphs import CONTROL, kijai, text_to_image


def named(canvas: dict, declared: dict) -> dict:
    """The canvas with the values of its old nodes by name as well."""
    for node in canvas["nodes"]:
        node["widgets_values_named"] = dict(zip(declared[node["type"]][1], node["widgets_values"]))
    return canvas


def test_values_by_name_are_read_and_written():
    old = named(as_canvas(kijai()), kijai().declared)
    sampler = nodes_of(old, "KolorsSampler")[0]
    sampler["widgets_values"] = [64, 64, 7]  # short of what the names tell
    new, _ = convert_graph(old)
    (node,) = nodes_of(new, "KolorsKSampler")
    assert node["widgets_values"] == [7, "fixed", 3, 5, "dpmpp_2m_sde_karras", 1.0]
    assert node["widgets_values_named"] == {
        "seed": 7,
        CONTROL: "fixed",
        "steps": 3,
        "cfg": 5,
        "sampler": "dpmpp_2m_sde_karras",
        "denoise": 1.0,
    }
    for node in (node for node in new["nodes"] if node["type"].startswith("Kolors")):
        assert list(node["widgets_values_named"].values()) == node["widgets_values"]


def test_values_by_name_appear_only_where_the_file_had_them():
    new, _ = convert_graph(as_canvas(kijai()))
    assert not any("widgets_values_named" in node for node in new["nodes"])


@pytest.mark.parametrize("as_text", [False, True])
def test_promoted_widgets_of_every_node_are_renamed(as_text):
    """They were a JSON text at first."""
    old = subgraph_of(kijai(), "DownloadAndLoadChatGLM3")
    box = next(node for node in old["nodes"] if node["type"] == "box")
    inside = {node["type"]: str(node["id"]) for node in old["definitions"]["subgraphs"][0]["nodes"]}
    sampler = inside["KolorsSampler"]
    names = ["seed", "steps", "cfg", "scheduler", "denoise_strength", "width"]
    entries = [[sampler, name] for name in names] + [[inside["KolorsTextEncode"], "negative_prompt"]]
    box["properties"]["proxyWidgets"] = json.dumps(entries) if as_text else entries
    old["definitions"]["subgraphs"][0]["widgets"] = [{"id": int(sampler), "name": "scheduler"}, {"id": 1}, None]
    new, report = convert_graph(old)
    assert not report.left and not canvas_faults(new)
    (definition,) = new["definitions"]["subgraphs"]
    there = {str(node["id"]): node["type"] for node in definition["nodes"]}
    found = next(node for node in new["nodes"] if node["type"] == "box")["properties"]["proxyWidgets"]
    assert [name for _, name in found] == ["seed", "steps", "cfg", "sampler", "denoise", "width", "text"]
    for id, name in found:
        assert name in [one.name for one in SHAPES[there[id]].inputs]
    assert definition["widgets"][0] == {"id": found[3][0], "name": "sampler"}


def test_a_widget_that_the_box_feeds_keeps_its_link():
    """As front ends from 1.47 on promote: by an input of the subgraph."""
    old = subgraph_of(text_to_image())
    inner = old["definitions"]["subgraphs"][0]
    encode = nodes_of(inner, "MZ_ChatGLM3_V2")[0]
    encode["inputs"].append({"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": 901})
    inner["inputs"].append({"id": "t", "name": "text", "type": "STRING", "linkIds": [901]})
    ends = {"origin_id": -10, "origin_slot": 1, "target_id": encode["id"], "target_slot": 1, "type": "STRING"}
    inner["links"].append({"id": 901} | ends)
    inner["state"]["lastLinkId"] = 901
    new, _ = convert_graph(old)
    (definition,) = new["definitions"]["subgraphs"]
    node = next(node for node in definition["nodes"] if node["id"] == encode["id"])
    (text,) = (one for one in node["inputs"] if one["name"] == "text")
    assert text["link"] in definition["inputs"][1]["linkIds"] and not canvas_faults(new)
    assert node["widgets_values"][0] == "一只红苹果, a red apple"


def test_a_choice_that_the_box_feeds_is_said():
    old = as_canvas(kijai())
    sampler = nodes_of(old, "KolorsSampler")[0]
    old["nodes"].append(
        {"id": 50, "type": "PrimitiveNode", "pos": [0, 9000], "size": [200, 60], "mode": 0, "inputs": []}
        | {"outputs": [{"name": "COMBO", "type": "COMBO", "links": [60]}], "widgets_values": ["EulerDiscreteScheduler"]}
    )
    sampler["inputs"].append({"name": "scheduler", "type": "COMBO", "widget": {"name": "scheduler"}, "link": 60})
    old["links"].append([60, 50, 0, sampler["id"], len(sampler["inputs"]) - 1, "COMBO"])
    old |= {"last_link_id": 60, "last_node_id": 50}
    new, report = convert_graph(old)
    (line,) = (line for line in report.notes if "scheduler" in line and "came from" in line)
    assert "KolorsSampler" in line and "PrimitiveNode" in line
    assert nodes_of(new, "KolorsKSampler")[0]["widgets_values"][4] == "dpmpp_2m_sde_karras"
    assert not nodes_of(new, "PrimitiveNode") and not canvas_faults(new)


def test_a_get_in_a_subgraph_finds_the_set_on_the_canvas():
    old = subgraph_of(text_to_image())
    inner = old["definitions"]["subgraphs"][0]
    loader = nodes_of(old, "MZ_ChatGLM3Loader")[0]
    setter = {"id": 300, "type": "SetNode", "pos": [0, 3000], "size": [200, 60], "mode": 0, "widgets_values": ["glm"]}
    setter["inputs"] = [{"name": "CHATGLM3MODEL", "type": "CHATGLM3MODEL", "link": 3}]
    old["nodes"].append(setter | {"outputs": [{"name": "*", "type": "*", "links": None}]})
    loader["outputs"][0]["links"].append(3)
    old["links"].append([3, loader["id"], 0, 300, 0, "CHATGLM3MODEL"])
    getter = {"id": 301, "type": "GetNode", "pos": [0, 3000], "size": [200, 60], "mode": 0, "widgets_values": ["glm"]}
    encode = nodes_of(inner, "MZ_ChatGLM3_V2")[0]
    number = encode["inputs"][0]["link"]
    getter["outputs"] = [{"name": "CHATGLM3MODEL", "type": "CHATGLM3MODEL", "links": [number]}]
    inner["nodes"].append(getter | {"inputs": []})
    for link in inner["links"]:
        if link["id"] == number:
            link["origin_id"] = 301
    inner["inputs"][0]["linkIds"].remove(number)
    old |= {"last_node_id": 301, "last_link_id": 3}
    new, report = convert_graph(old)
    assert not canvas_faults(new) and not report.left
    assert not [line for line in report.notes if "not connected" in line]
    (definition,) = new["definitions"]["subgraphs"]
    (kept,) = nodes_of(definition, "GetNode")
    assert kept["outputs"][0] == {"name": "CLIP", "type": "CLIP", "links": [number]}
