"""Canvas files: what stays of them, subgraphs, and damage."""

from __future__ import annotations

import json

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import NotAGraph, convert_graph
from comfyui_kolors.kolors_core.migrate.table import TABLE
from graph_files import as_canvas, canvas_faults, nodes_of, subgraph_of
from old_graphs import kijai, text_to_image


def test_the_canvas_check_finds_faults():
    good = as_canvas(text_to_image())
    assert not canvas_faults(good)
    for spoil in (
        lambda c: c["nodes"].append(c["nodes"][0]),
        lambda c: c["links"].append(c["links"][0]),
        lambda c: c["links"][0].__setitem__(3, 99),
        lambda c: c["links"][0].__setitem__(4, 99),
        lambda c: c["links"].pop(),
        lambda c: c["nodes"][0]["outputs"][0].update(type="VAE"),
        lambda c: c.update(last_link_id=1),
        lambda c: c["nodes"][0].update(pos=c["nodes"][1]["pos"]),
    ):
        bad = json.loads(json.dumps(good))
        spoil(bad)
        assert canvas_faults(bad)


def test_untouched_nodes_and_links_stay_as_they_are():
    old = as_canvas(text_to_image())
    old["groups"] = [{"title": "All", "bounding": [-50, -80, 2000, 900]}]
    old["extra"] = {"ds": {"scale": 1, "offset": [0, 0]}, "other": [1]}
    new, _ = convert_graph(old)
    assert new["extra"] == old["extra"]
    assert [link[:5] for link in new["links"]] == [link[:5] for link in old["links"]]
    for kind in ("EmptyLatentImage", "SaveLatent"):
        (before,), (after,) = nodes_of(old, kind), nodes_of(new, kind)
        assert {key: after[key] for key in after if key != "pos"} == {
            key: before[key] for key in before if key != "pos"
        }


def test_title_colour_and_mode_stay():
    old = as_canvas(text_to_image())
    node = nodes_of(old, "MZ_ChatGLM3_V2")[0]
    node |= {"title": "正面", "color": "#232", "mode": 4, "size": [600, 700], "flags": {"pinned": True}}
    new, report = convert_graph(old)
    (same,) = (one for one in new["nodes"] if one["id"] == node["id"])
    assert same["type"] == "KolorsPromptEncode" and same["size"] == [600, 700] and same["inputs"][0]["type"] == "CLIP"
    assert all(same[key] == node[key] for key in ("title", "color", "mode", "flags"))
    assert same["widgets_values"] == ["一只红苹果, a red apple", 0, 0, 0, 0, 0, 0, 256]
    assert any("正面" in line for line in report.mapped)


def test_a_widget_that_another_node_feeds():
    graph = kijai()
    graph["4"]["inputs"]["vae_name"] = "x"
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "KolorsSampler")
    sampler["seed"] = graph.node("PrimitiveNode", value=11)
    new, _ = convert_graph(as_canvas(graph))
    assert not canvas_faults(new)
    (node,) = nodes_of(new, "KolorsKSampler")
    (seed,) = (one for one in node["inputs"] if one["name"] == "seed")
    assert seed["widget"] == {"name": "seed"} and seed["link"]


def test_nodes_in_a_subgraph_and_its_edges():
    old = subgraph_of(text_to_image())
    assert not canvas_faults(old)
    new, report = convert_graph(old)
    assert not report.left and not canvas_faults(new)
    (definition,) = new["definitions"]["subgraphs"]
    assert not {node["type"] for node in definition["nodes"]} & set(TABLE)
    assert definition["inputs"][0]["type"] == "CLIP" and len(definition["inputs"][0]["linkIds"]) == 2
    assert definition["outputs"][0]["linkIds"] == [900]
    box = next(node for node in new["nodes"] if node["type"] == "box")
    assert box["inputs"][0]["type"] == "CLIP" and new["links"][0][5] == "CLIP"
    assert isinstance(definition["links"][0], dict)


def test_subgraphs_in_subgraphs_and_twice():
    """One in another, whose own nodes stay as they are, and one that stands on the canvas two times."""
    old = subgraph_of(text_to_image())
    inner_box = next(node for node in old["nodes"] if node["type"] == "box")
    edges = {"inputNode": {"id": -10}, "outputNode": {"id": -20}, "state": {"lastNodeId": 101, "lastLinkId": 2}}
    ends = [(-10, 101, "CHATGLM3MODEL"), (101, -20, "LATENT")]
    outer = {"id": "outer", "name": "Outer", "nodes": [json.loads(json.dumps(inner_box))], "groups": []} | edges
    outer["links"] = [
        {"id": i + 1, "origin_id": a, "origin_slot": 0, "target_id": b, "target_slot": 0, "type": kind}
        for i, (a, b, kind) in enumerate(ends)
    ]
    outer["inputs"] = [{"id": "i", "name": "chatglm3_model", "type": "CHATGLM3MODEL", "linkIds": [1]}]
    outer["outputs"] = [{"id": "o", "name": "LATENT", "type": "LATENT", "linkIds": [2]}]
    inner_box["type"] = "outer"
    second = json.loads(json.dumps(inner_box)) | {"id": 200, "pos": [500, 2000]}
    second["inputs"][0]["link"], second["outputs"][0]["links"] = 3, []
    old["nodes"].append(second)
    old["links"].append([3, 100, 0, 200, 0, "CHATGLM3MODEL"])
    next(node for node in old["nodes"] if node["id"] == 100)["outputs"][0]["links"].append(3)
    old |= {"last_node_id": 200, "last_link_id": 3}
    old["definitions"]["subgraphs"].append(outer)
    new, report = convert_graph(old)
    assert not report.left and not canvas_faults(new) and "CHATGLM3MODEL" not in json.dumps(new)


def test_a_promoted_widget_keeps_its_node():
    old = subgraph_of(text_to_image())
    box = next(node for node in old["nodes"] if node["type"] == "box")
    inside = old["definitions"]["subgraphs"][0]
    inside["nodes"].append(
        nodes_of(as_canvas(text_to_image()), "MZ_ChatGLM3Loader")[0] | {"pos": [0, 5000], "outputs": []}
    )
    promoted = box["properties"]["proxyWidgets"]
    promoted.append([str(inside["nodes"][-1]["id"]), "chatglm3_checkpoint"])
    new, _ = convert_graph(old)
    found = next(node for node in new["nodes"] if node["type"] == "box")["properties"]["proxyWidgets"]
    assert found[:2] == promoted[:2]
    assert found[2] == [promoted[2][0], "text_encoder_name"]


def test_embeds_across_the_edge_of_a_subgraph_are_named():
    old = subgraph_of(text_to_image())
    old["definitions"]["subgraphs"][0]["nodes"] += [
        node | {"id": 500, "inputs": [], "pos": [0, 9000]} for node in nodes_of(as_canvas(kijai()), "KolorsSampler")
    ]
    for node in old["definitions"]["subgraphs"][0]["nodes"]:
        if node["id"] == 500:
            node["outputs"] = []
    new, report = convert_graph(old)
    assert "KolorsSampler" in report.left[0] and "not connected" in report.left[0]
    assert not canvas_faults(new, overlapping=True)


def test_group_nodes_of_older_front_ends_are_named():
    old = as_canvas(text_to_image())
    old["extra"]["groupNodes"] = {"Prompt": {"nodes": [{"type": "MZ_ChatGLM3_V2"}, {"type": "Note"}]}}
    _, report = convert_graph(old)
    assert "group node 'Prompt'" in report.left[0] and "MZ_ChatGLM3_V2" in report.left[0]


def test_links_as_objects_and_bends_of_links():
    old = as_canvas(old_graphs.control_net(patch=True, loader="ControlNetLoader"))
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    gone = next(link[0] for link in old["links"] if link[5] == "CONTROL_NET")
    stays = next(link[0] for link in old["links"] if link[5] == "LATENT")
    old["links"] = [dict(zip(keys, link)) | {"parentId": 1} for link in old["links"]]
    old["state"] = {"lastNodeId": old.pop("last_node_id"), "lastLinkId": old.pop("last_link_id")}
    old["reroutes"] = [{"id": 1, "linkIds": [gone, stays]}]
    new, _ = convert_graph(old)
    assert not canvas_faults(new)
    assert new["reroutes"][0]["linkIds"] == [stays] and "last_node_id" not in new
    assert next(link for link in new["links"] if link["id"] == stays)["parentId"] == 1


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda c: c["nodes"].append(1), "no type"),
        (lambda c: c["nodes"][0].pop("id"), "no type or no id"),
        (lambda c: c["nodes"].append(c["nodes"][0]), "same id"),
        (lambda c: c["nodes"][0].update(outputs=["x"]), "outputs of node 1"),
        (lambda c: c["links"].append([1, 2]), "a link is damaged"),
        (lambda c: c.update(definitions={"subgraphs": [{"nodes": [{}], "links": []}]}), "no type"),
    ],
)
def test_a_damaged_canvas_is_named(damage, words):
    canvas = as_canvas(text_to_image())
    damage(canvas)
    with pytest.raises(NotAGraph, match=words):
        convert_graph(canvas)


@pytest.mark.parametrize("bad", [None, 999, "x", [], [1], {}, {"a": 1}])
def test_damaged_groups_and_bends_are_passed_over(bad):
    canvas = as_canvas(text_to_image())
    canvas["groups"] = [bad, {"bounding": bad}, {"bounding": [0, 0, 100, [bad]]}]
    canvas["reroutes"] = [bad, {"linkIds": bad}, {"linkIds": [bad, 1]}]
    canvas["extra"] = {"linkExtensions": [bad, {"id": bad}, {"id": 1}], "groupNodes": {"a": bad, "b": {"nodes": bad}}}
    canvas["extra"]["groupNodes"]["c"] = {"nodes": [bad, {"type": bad}, {"type": "MZ_ChatGLM3_V2"}]}
    new, report = convert_graph(canvas)
    assert new["extra"]["linkExtensions"] == [{"id": 1}] and 1 in new["reroutes"][2]["linkIds"]
    assert new["groups"] == canvas["groups"] and len(report.left) == 1 and "group node 'c'" in report.left[0]
    assert not canvas_faults(new)


@pytest.mark.parametrize("slot", [None, "x", 7, [1]])
@pytest.mark.parametrize("name", ["inputs", "outputs"])
def test_a_damaged_end_of_a_subgraph_is_named(name, slot):
    canvas = subgraph_of(text_to_image())
    canvas["definitions"]["subgraphs"][0][name] = [slot]
    with pytest.raises(NotAGraph, match=f"the {name} of the subgraph Prompts are damaged"):
        convert_graph(canvas)
