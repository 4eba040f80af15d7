"""Graphs of BizyAir, whose nodes run on its server."""

from __future__ import annotations

import json

from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, inputs_of, nodes_of
from old_graphs import OldGraph, on_server, on_server_at_first, prompts_on_server


def test_a_graph_of_the_server_runs_here(form):
    result, report = convert_graph(form(on_server()))
    assert not report.left
    for node in result.get("nodes") or result.values():
        assert "BIZYAIR" not in json.dumps({k: v for k, v in node.items() if k != "_meta"}).upper()
    assert "BIZYAIR" not in json.dumps(result.get("links", ""))
    assert len(nodes_of(result, "KolorsChatGLM3Loader")) == 1
    for kind in ("KSampler", "VAELoader", "VAEDecode", "ControlNetApply", "CLIPVisionLoader", "KolorsIPAdapterApply"):
        assert len(nodes_of(result, kind)) == 1
    assert any("BizyAir_KSampler -> KSampler" in line for line in report.mapped)
    for kind in ("BizyAir_VAELoader", "BizyAir_MZ_KolorsUNETLoaderV2", "BizyAir_MinusZoneChatGLM3TextEncode"):
        assert any(kind in line and "Choose your" in line for line in report.notes)


def test_prompts_take_the_place_of_prompts_and_share_a_loader():
    prompt, _ = convert_graph(prompts_on_server())
    assert [prompt[key]["class_type"] for key in "12"] == ["KolorsPromptEncode"] * 2
    assert inputs_of(prompt, "KolorsPromptEncode") == [
        {"clip": ("KolorsChatGLM3Loader", 0), "text": text} for text in ("一只红苹果", "")
    ]


def test_the_first_nodes_get_the_loaders_that_the_server_had():
    prompt, report = convert_graph(on_server_at_first(picture=True))
    assert [one["model"] for one in inputs_of(prompt, "KolorsKSampler")] == [("KolorsUNETLoader", 0)] * 2
    for kind in ("KolorsUNETLoader", "KolorsChatGLM3Loader", "VAELoader"):
        assert len(nodes_of(prompt, kind)) == 1
        assert sum(kind in line and "added" in line for line in report.notes) == 1


def test_graphs_of_other_models_stay_on_the_server(form):
    graph = OldGraph()
    vae = graph.node("BizyAir_VAELoader", vae_name="x")
    samples = graph.node("EmptyLatentImage", width=64, height=64, batch_size=1)
    graph.node("PreviewImage", images=graph.node("BizyAir_VAEDecode", samples=samples, vae=vae))
    old = form(graph)
    result, report = convert_graph(old)
    assert result == old and not report.mapped


def test_a_node_without_equal_is_named_and_one_of_pictures_stays():
    graph = on_server()
    graph.node("BizyAir_SuperUpscaler", model=["1", 0])
    graph.node("BizyAirRemoveBackground", image=graph.image())
    result, report = convert_graph(as_canvas(graph))
    (line,) = report.left
    assert "BizyAir_SuperUpscaler" in line and "server" in line
    assert nodes_of(result, "BizyAirRemoveBackground")
