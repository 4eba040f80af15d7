"""Graphs that Use Everywhere connects while they are queued."""

from __future__ import annotations

import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, canvas_faults, nodes_of
from old_graphs import OldGraph, kijai


def sent(kind: str = "Anything Everywhere", *names: str, **widgets: str) -> dict:
    """A canvas on which all that `names` are given comes from nodes that send it."""
    graph = kijai()
    sources = {"kolors_model": ["1", 0], "chatglm3_model": ["2", 0], "kolors_embeds": ["3", 0]}
    for name in names:
        for node in graph.values():
            node["inputs"].pop(name, None)
        graph.node(kind, anything=sources[name], **widgets)
    return as_canvas(graph)


def link_into(canvas: dict, kind: str, name: str) -> list | None:
    """Where the input of the first node of a type comes from: its type and the number of the output."""
    (slot,) = (one for one in nodes_of(canvas, kind)[0]["inputs"] if one["name"] == name)
    found = next((link for link in canvas["links"] if link[0] == slot["link"]), None)
    kinds = {node["id"]: node["type"] for node in canvas["nodes"]}
    return found and [kinds[found[1]], found[2]]


@pytest.mark.parametrize("kind", ["Anything Everywhere", "Anything Everywhere3", "Anything Everywhere?"])
def test_what_is_sent_everywhere_is_connected(kind):
    new, report = convert_graph(sent(kind, "kolors_model", "chatglm3_model", "kolors_embeds"))
    assert not canvas_faults(new) and not report.left
    assert not [line for line in report.notes if "not connected" in line or "gets nothing" in line]
    assert link_into(new, "KolorsPromptEncode", "clip") == ["KolorsChatGLM3Loader", 0]
    assert link_into(new, "KolorsKSampler", "model") == ["KolorsUNETLoader", 0]
    assert len(nodes_of(new, kind)) == 2, "that for the embeds goes"


@pytest.mark.parametrize(
    "widgets, reaches",
    [
        (("Kolors.*", ".*", ".*"), True),
        (("KSampler$", ".*", ".*"), False),
        ((".*", "chatglm3_model", ".*"), True),
        ((".*", "clip", ".*"), False),
        ((".*", ".*", "my group"), False),
        (("(?<x>", ".*", ".*"), False),
    ],
)
def test_expressions_decide_and_a_doubt_is_said(widgets, reaches):
    names = dict(zip(("title_regex", "input_regex", "group_regex"), widgets))
    new, report = convert_graph(sent("Anything Everywhere?", "chatglm3_model", **names))
    found = link_into(new, "KolorsPromptEncode", "clip")
    assert found == (["KolorsChatGLM3Loader", 0] if reaches else None)
    doubts = [line for line in report.notes if "clip of KolorsPromptEncode is not connected" in line]
    assert len(doubts) == (0 if reaches else 1)
    if widgets[2] != ".*":
        assert "Connect it" in doubts[0]


def test_properties_of_newer_versions_decide():
    for rules, reaches in (({"title_regex": "Kolors"}, True), ({"title_regex": "Other"}, False)):
        old = sent("Anything Everywhere", "chatglm3_model")
        nodes_of(old, "Anything Everywhere")[0]["properties"]["ue_properties"] = rules
        new, _ = convert_graph(old)
        assert bool(link_into(new, "KolorsPromptEncode", "clip")) == reaches


def test_what_the_file_notes_counts():
    graph = kijai()
    graph["3"]["inputs"].pop("chatglm3_model")
    other = graph.node("LoadChatGLM3", chatglm3_checkpoint="other")
    for source in (["2", 0], other):
        graph.node("Anything Everywhere", anything=source)
    old = as_canvas(graph)
    ambiguous, report = convert_graph(old)
    assert link_into(ambiguous, "KolorsPromptEncode", "clip") is None
    assert any("Anything Everywhere may reach it" in line for line in report.notes)
    note = {"downstream": 3, "downstream_slot": 0, "upstream": other[0], "upstream_slot": 0, "controller": 10}
    old["extra"]["ue_links"] = [note | {"type": "CHATGLM3MODEL"}, note | {"downstream": 99}, "x"]
    new, _ = convert_graph(old)
    (loader,) = (node for node in nodes_of(new, "KolorsChatGLM3Loader") if node["widgets_values"][0] == "other")
    assert loader["outputs"][0]["links"] and link_into(new, "KolorsPromptEncode", "clip")
    assert new["extra"]["ue_links"] == []


def test_links_that_only_a_picture_lists_count():
    graph = kijai()
    graph["3"]["inputs"].pop("chatglm3_model")
    for source in (["2", 0], graph.node("LoadChatGLM3", chatglm3_checkpoint="other")):
        graph.node("Anything Everywhere", anything=source)
    old = as_canvas(graph)
    old["links"].append([90, 2, 0, 3, 0, "CHATGLM3MODEL"])
    old["last_link_id"] = 90
    new, _ = convert_graph(old)
    assert link_into(new, "KolorsPromptEncode", "clip") == ["KolorsChatGLM3Loader", 0]
    assert not canvas_faults(new)


def test_a_seed_that_is_sent_everywhere_is_connected():
    graph = kijai(seed=["90", 0])
    graph["90"] = {"class_type": "Seed Everywhere", "inputs": {"seed": 7}}
    old = as_canvas(graph)
    (slot,) = (one for one in nodes_of(old, "KolorsSampler")[0]["inputs"] if one["name"] == "seed")
    old["links"] = [link for link in old["links"] if link[0] != slot["link"]]
    slot |= {"link": None, "type": "INT"}  # a widget turned into an input, as older front ends do
    nodes_of(old, "Seed Everywhere")[0]["outputs"][0]["links"] = None
    new, _ = convert_graph(old)
    assert link_into(new, "KolorsKSampler", "seed") == ["Seed Everywhere", 0] and not canvas_faults(new)


def test_prompts_that_are_sent_everywhere_are_connected():
    """To the inputs whose names say which of the two they are."""
    declared = {"Prompts Everywhere": ([("+ve", "*"), ("-ve", "*")], [], []), "Text": ([], ["text"], ["STRING"])}
    graph = OldGraph(declared)
    graph.update(kijai(prompt=["90", 0]))
    texts = [graph.node("Text", text=text) for text in ("a cat", "ugly")]
    graph["3"]["inputs"] |= {"prompt": texts[0], "negative_prompt": texts[1]}
    graph.node("Prompts Everywhere", **dict(zip(("+ve", "-ve"), texts)))
    old = as_canvas(graph)
    for slot in nodes_of(old, "KolorsTextEncode")[0]["inputs"]:
        if "widget" in slot:
            old["links"] = [link for link in old["links"] if link[0] != slot["link"]]
            slot |= {"link": None, "type": "STRING"}
    new, _ = convert_graph(old)
    found = [one for node in nodes_of(new, "KolorsPromptEncode") for one in node["inputs"] if one["name"] == "text"]
    sources = {link[0]: link[1] for link in new["links"]}
    assert [sources[one["link"]] for one in found] == [int(texts[0][0]), int(texts[1][0])]


def test_muted_senders_send_nothing():
    old = sent("Anything Everywhere", "chatglm3_model")
    nodes_of(old, "Anything Everywhere")[0]["mode"] = 2
    new, _ = convert_graph(old)
    assert link_into(new, "KolorsPromptEncode", "clip") is None


def test_links_that_were_added_for_a_picture_stay():
    old = as_canvas(kijai())
    old["extra"]["links_added_by_ue"] = [link[0] for link in old["links"]]
    new, _ = convert_graph(old)
    kinds = {node["id"]: node["type"] for node in new["nodes"]}
    ours = {link[0] for link in new["links"] if any("Kolors" in kinds[end] for end in (link[1], link[3]))}
    assert ours and not ours & set(new["extra"]["links_added_by_ue"])
    assert set(new["extra"]["links_added_by_ue"]) < {link[0] for link in new["links"]}


def test_rules_of_a_node_go_with_its_place():
    old = as_canvas(kijai())
    rules = {"widget_ue_connectable": {"seed": True}}
    nodes_of(old, "KolorsSampler")[0]["properties"]["ue_properties"] = rules
    new, _ = convert_graph(old)
    assert nodes_of(new, "KolorsKSampler")[0]["properties"]["ue_properties"] == rules


def test_a_graph_of_nodes_that_send_alone_stays():
    graph = OldGraph()
    graph.node("Anything Everywhere", anything=graph.node("VAELoader", vae_name="x"))
    old = as_canvas(graph)
    assert convert_graph(old)[0] == old
