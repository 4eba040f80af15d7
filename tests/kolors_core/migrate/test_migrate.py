"""Graphs of the older packs: what becomes of each node, in both file formats, and the command."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import NotAGraph, convert
from comfyui_kolors.kolors_core.migrate.shapes import SHAPES
from comfyui_kolors.kolors_core.migrate.table import TABLE
from old_graphs import GRAPHS, OldGraph, as_canvas, canvas_faults, kijai, text_to_image

ROOT = Path(__file__).resolve().parents[3]
FORMATS = {"API": lambda graph: dict(graph), "canvas": as_canvas}


def nodes_of(result: dict, kind: str) -> list[dict]:
    """Nodes of a type, in either format."""
    if "nodes" in result:
        return [node for node in result["nodes"] if node["type"] == kind]
    return [node for node in result.values() if node["class_type"] == kind]


def kinds_of(result: dict) -> list[str]:
    nodes = result.get("nodes")
    return (
        sorted(node["type"] for node in nodes)
        if nodes is not None
        else sorted(n["class_type"] for n in result.values())
    )


def inputs_of(prompt: dict, kind: str) -> list[dict]:
    """Inputs of the nodes of a type in an API graph; a link as the type that it comes from and the output's number."""
    named = []
    for node in nodes_of(prompt, kind):
        inputs = node["inputs"].items()
        named.append({n: (prompt[v[0]]["class_type"], v[1]) if isinstance(v, list) else v for n, v in inputs})
    return named


@pytest.fixture(params=FORMATS)
def form(request):
    return FORMATS[request.param]


def test_the_graphs_hold_every_old_node():
    assert {node["class_type"] for build in GRAPHS.values() for node in build().values()} >= set(TABLE)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_converts(name, form):
    old = form(GRAPHS[name]())
    before = json.dumps(old)
    result, report = convert(old)
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
    prompt, _ = convert(GRAPHS[name]())
    canvas, _ = convert(as_canvas(GRAPHS[name]()))
    assert kinds_of(prompt) == kinds_of(canvas)
    assert sum(isinstance(v, list) for node in prompt.values() for v in node["inputs"].values()) == len(canvas["links"])


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


# ---- what becomes of the nodes --------------------------------------------------------------------------------------


def test_kolors_sampler_becomes_a_kolors_ksampler():
    prompt, _ = convert(kijai())
    (sampler,) = inputs_of(prompt, "KolorsKSampler")
    assert sampler == {
        "model": ("KolorsUNETLoader", 0),
        "positive": ("KolorsPromptEncode", 0),
        "negative": ("KolorsPromptEncode", 0),
        "latent_image": ("EmptyLatentImage", 0),
        "seed": 7,
        "steps": 3,
        "cfg": 5,
        "sampler": "dpmpp_2m_sde_karras",
        "denoise": 1.0,
    }
    (node,) = nodes_of(prompt, "KolorsKSampler")
    texts = [prompt[node["inputs"][name][0]]["inputs"]["text"] for name in ("positive", "negative")]
    assert texts == ["a red apple", "ugly"]
    (latent,) = inputs_of(prompt, "EmptyLatentImage")
    assert latent == {"width": 64, "height": 64, "batch_size": 1}
    (encoder,) = inputs_of(prompt, "KolorsChatGLM3Loader")
    assert encoder == {"text_encoder_name": "pytorch_model.bin.index.json", "weight_dtype": "int8"}


@pytest.mark.parametrize(
    "scheduler, sampler",
    [
        ("EulerDiscreteScheduler", "euler"),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral"),
        ("DPMSolverMultistepScheduler", "dpmpp_2m"),
        ("DPMSolverMultistepScheduler_SDE_karras", "dpmpp_2m_sde_karras"),
        ("UniPCMultistepScheduler", "unipc"),
        ("DEISMultistepScheduler", "deis"),
    ],
)
def test_schedulers(scheduler, sampler):
    prompt, _ = convert(kijai(scheduler=scheduler))
    assert inputs_of(prompt, "KolorsKSampler")[0]["sampler"] == sampler


def test_prompts_parted_by_a_bar_are_sampled_one_by_one():
    prompt, report = convert(kijai("a red apple | {big|small} blue bird | girl", images=2))
    samplers = nodes_of(prompt, "KolorsKSampler")
    texts = [prompt[node["inputs"]["positive"][0]]["inputs"]["text"] for node in samplers]
    assert texts == ["a red apple ", " {big|small} blue bird ", " girl"]
    assert inputs_of(prompt, "EmptyLatentImage")[0]["batch_size"] == 6
    parts = [prompt[node["inputs"]["latent_image"][0]]["inputs"] for node in samplers]
    assert [(part["batch_index"], part["length"]) for part in parts] == [(0, 2), (2, 2), (4, 2)]
    assert len(nodes_of(prompt, "LatentBatch")) == 2
    assert inputs_of(prompt, "SaveLatent")[0]["samples"] == ("LatentBatch", 0)
    assert any("3 prompts" in line for line in report.notes)
    assert any("random choice" in line for line in report.notes), "an API graph has no dynamic prompts"


def test_every_prompt_starts_from_the_same_picture():
    prompt, _ = convert(kijai("apple|bird", latent=True))
    samplers = inputs_of(prompt, "KolorsKSampler")
    assert [(node["latent_image"], node["denoise"]) for node in samplers] == [(("VAEEncode", 0), 0.7)] * 2
    assert not nodes_of(prompt, "EmptyLatentImage")


def test_embeds_become_conditionings_with_and_without_sizes():
    prompt, _ = convert(old_graphs.embeds())
    (sampler,) = nodes_of(prompt, "KSampler")
    positive, negative = (prompt[sampler["inputs"][name][0]]["inputs"] for name in ("positive", "negative"))
    assert [positive[name] for name in old_graphs.SIZES] == [1024, 768, 8, 16, 512, 640]
    assert (positive["text"], negative["text"]) == ("a red apple", "ugly")
    assert not set(old_graphs.SIZES) & set(negative)
    assert inputs_of(prompt, "KolorsModelSampling") == [{"model": ("KolorsUNETLoader", 0), "schedule": "sdxl"}]


def test_a_prompt_that_only_the_embeds_used_is_not_encoded_twice():
    graph = old_graphs.embeds()
    for key in [
        key for key, node in graph.items() if node["class_type"] in ("KolorsSampler", "SaveImage", "VAEDecode")
    ]:
        del graph[key]
    graph = {key: node for key, node in graph.items() if node["inputs"].get("samples") != ["6", 0]}
    prompt, _ = convert(graph)
    assert sorted(node["inputs"]["text"] for node in nodes_of(prompt, "KolorsPromptEncode")) == ["a red apple", "ugly"]


def test_checkpoint_outputs():
    prompt, _ = convert(old_graphs.checkpoint())
    assert inputs_of(prompt, "VAEDecode")[0]["vae"] == ("KolorsCheckpointLoader", 2)
    assert inputs_of(prompt, "KSampler")[0]["model"] == ("KolorsCheckpointLoader", 0)


@pytest.mark.parametrize("loader", ["MZ_KolorsControlNetLoader", "ControlNetLoader"])
def test_a_control_net_patch_becomes_the_model_of_the_loader(loader, form):
    result, report = convert(form(old_graphs.control_net(patch=True, loader=loader)))
    (node,) = nodes_of(result, "KolorsControlNetLoader")
    assert not nodes_of(result, "ControlNetLoader")
    if "nodes" in result:
        assert node["widgets_values"] == ["Kolors-ControlNet-Depth.safetensors"]
        assert node["inputs"][0]["name"] == "model" and node["inputs"][0]["link"]
    else:
        assert inputs_of(result, "KolorsControlNetLoader") == [
            {"control_net_name": "Kolors-ControlNet-Depth.safetensors", "model": ("KolorsUNETLoader", 0)}
        ]
    assert any(f": {loader} -> removed" in line for line in report.mapped) or loader.startswith("MZ")


def test_a_stock_control_net_loader_stays_where_others_use_it(form):
    graph = old_graphs.control_net(patch=True, loader="ControlNetLoader")
    (loader,) = (key for key, node in graph.items() if node["class_type"] == "ControlNetLoader")
    apply = next(node for node in graph.values() if node["class_type"] == "ControlNetApply")
    graph.node("ControlNetApply", **apply["inputs"] | {"control_net": [loader, 0]})
    result, _ = convert(form(graph))
    assert len(nodes_of(result, "ControlNetLoader")) == len(nodes_of(result, "KolorsControlNetLoader")) == 1


def test_a_patch_of_an_unknown_loader_stays_and_is_named(form):
    graph = old_graphs.control_net(patch=True, loader="ControlNetLoader")
    loader = next(node for node in graph.values() if node["class_type"] == "ControlNetLoader")
    loader |= {"class_type": "SetNode", "inputs": {"Constant": "x"}}
    result, report = convert(form(graph))
    assert nodes_of(result, "MZ_KolorsControlNetPatch") and not nodes_of(result, "KolorsControlNetLoader")
    (line,) = report.left
    assert "SetNode" in line and "Load Kolors ControlNet" in line


def test_picture_prompts():
    prompt, report = convert(old_graphs.picture())
    assert inputs_of(prompt, "KolorsIPAdapterApply") == [
        {
            "model": ("KolorsUNETLoader", 0),
            "ipadapter": ("KolorsIPAdapterLoader", 0),
            "clip_vision": ("CLIPVisionLoader", 0),
            "image": ("EmptyImage", 0),
            "weight": 0.7,
            "start_at": 0.0,
            "end_at": 0.9,
            "weight_type": "linear",
        }
    ]
    assert any("black picture" in line for line in report.notes)


@pytest.mark.parametrize(
    "kind, adapter",
    [("MZ_IPAdapterFaceID", "MZ_IPAdapterModelLoaderKolors"), ("IPAdapterFaceIDKolors", "IPAdapterModelLoader")],
)
def test_faces(kind, adapter, form):
    result, report = convert(form(old_graphs.face(kind, adapter)))
    assert not [name for name in kinds_of(result) if "InsightFace" in name or name.startswith("IPAdapter")]
    assert any("antelopev2" in line for line in report.notes)
    if "nodes" not in result:
        (face,) = inputs_of(result, "KolorsFaceIDApply")
        assert "face_analysis" not in face and face["ipadapter"] == ("KolorsIPAdapterLoader", 0)
        assert inputs_of(result, "PreviewImage") == [{"images": ("KolorsFaceIDApply", 2)}]


def test_what_an_apply_node_cannot_do_here_is_said():
    changes = {"weight_type": "style transfer precise", "combine_embeds": "average", "embeds_scaling": "K+V"}
    graph = old_graphs.face("IPAdapterFaceIDKolors", "IPAdapterModelLoader", **changes, weight_kolors=0.85, weight=5)
    prompt, report = convert(graph)
    (face,) = inputs_of(prompt, "KolorsFaceIDApply")
    assert (face["weight_type"], face["weight"]) == ("style", 3)
    notes = "\n".join(report.notes)
    for words in ("style transfer precise", "average", "K+V", "weight_kolors", "5"):
        assert words in notes


def test_adapter_nodes_of_ipadapter_plus_stay_where_they_work(form):
    """They take our MODEL; only the loader that MZ copied becomes theirs again."""
    result, report = convert(form(old_graphs.picture("IPAdapterAdvanced")))
    assert nodes_of(result, "IPAdapterAdvanced") and nodes_of(result, "IPAdapterModelLoader")
    assert not nodes_of(result, "KolorsIPAdapterLoader")
    assert any("ComfyUI_IPAdapter_plus" in line for line in report.notes)


def test_an_adapter_from_a_unified_loader_stays_and_is_named(form):
    graph = OldGraph()
    unified = graph.node("IPAdapterUnifiedLoader", model=graph.unet(), preset="FACEID PLUS KOLORS")
    inputs = old_graphs.APPLIED | {"model": unified, "ipadapter": [unified[0], 1], "image": graph.image()}
    graph.sample(
        graph.node("IPAdapterFaceIDKolors", weight_faceidv2=1.0, weight_kolors=1.0, **inputs), *graph.prompts()
    )
    result, report = convert(form(graph))
    assert nodes_of(result, "IPAdapterFaceIDKolors")
    assert "IPAdapterUnifiedLoader" in report.left[0] and "Load Kolors IP-Adapter" in report.left[0]


def test_easy_loader():
    prompt, _ = convert(old_graphs.easy(lora_name="style.safetensors", resolution="128 x 64"))
    (lora,) = inputs_of(prompt, "KolorsLoraLoader")
    assert (lora["strength_model"], lora["strength_clip"], lora["lora_name"]) == (0.5, 0.25, "style.safetensors")
    assert inputs_of(prompt, "KSampler")[0]["model"] == ("KolorsLoraLoader", 0)
    assert inputs_of(prompt, "VAEDecode")[0]["vae"] == ("VAELoader", 0)


def test_easy_loader_with_a_pipe(form):
    result, report = convert(form(old_graphs.easy(pipe=True)))
    assert len(nodes_of(result, "easy pipeIn")) == 1
    assert any("ComfyUI-Easy-Use" in line for line in report.notes)
    if "nodes" not in result:
        assert inputs_of(result, "easy kSampler") == [{"pipe": ("easy pipeIn", 0), "image_output": "Preview"}]
        (pipe,) = nodes_of(result, "easy pipeIn")
        latent = result[pipe["inputs"]["latent"][0]]["inputs"]
        assert latent == {"width": 64, "height": 128, "batch_size": 2}


def test_easy_loader_with_overrides(form):
    graph = old_graphs.easy()
    loader = next(node["inputs"] for node in graph.values() if node["class_type"] == "easy kolorsLoader")
    loader["model_override"] = graph.node("UNETLoader", unet_name="x", weight_dtype="default")
    loader["optional_lora_stack"] = graph.node("easy loraStack", lora_name="y")
    result, report = convert(form(graph))
    assert not nodes_of(result, "KolorsUNETLoader") and nodes_of(result, "UNETLoader")
    assert any("LoRA stack" in line for line in report.notes)


def test_round_brackets_are_named():
    _, report = convert(kijai("a (red:1.2) apple"))
    assert any("round brackets" in line for line in report.notes)
    _, report = convert(kijai(r"a \(red\) apple"))
    assert not any("round brackets" in line for line in report.notes)


def test_embeds_that_go_elsewhere_stay_and_are_named(form):
    graph = kijai()
    graph.node("SetNode", value=["3", 0], Constant="prompt")
    result, report = convert(form(graph))
    assert nodes_of(result, "KolorsTextEncode") and nodes_of(result, "KolorsSampler")
    assert len(report.left) == 2 and "SetNode" in report.left[0]


def test_values_of_another_kind_become_the_default(form):
    result, report = convert(form(kijai(steps="many", scheduler="LCM", cfg=1000)))
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


# ---- the canvas -----------------------------------------------------------------------------------------------------


def test_untouched_nodes_and_links_stay_as_they_are():
    old = as_canvas(text_to_image())
    old["groups"] = [{"title": "All", "bounding": [-50, -80, 2000, 900]}]
    old["extra"] = {"ds": {"scale": 1, "offset": [0, 0]}, "other": [1]}
    new, _ = convert(old)
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
    new, report = convert(old)
    (same,) = (one for one in new["nodes"] if one["id"] == node["id"])
    assert same["type"] == "KolorsPromptEncode" and same["size"] == [600, 700] and same["inputs"][0]["type"] == "CLIP"
    assert all(same[key] == node[key] for key in ("title", "color", "mode", "flags"))
    assert same["widgets_values"] == ["一只红苹果, a red apple", 0, 0, 0, 0, 0, 0, 256]
    assert any("正面" in line for line in report.mapped)


def test_a_group_still_holds_its_nodes():
    old = as_canvas(kijai("a|b|c"))
    old["groups"] = [{"title": "Sampling", "bounding": [-40, -80, 1500, 560]}]
    new, _ = convert(old)
    x, y, width, height = new["groups"][0]["bounding"]
    kept = {node["id"] for node in old["nodes"]}
    for left, top, wide, high in (old_graphs.box(node) for node in new["nodes"] if node["id"] in kept):
        assert x <= left and y <= top and left + wide <= x + width and top + high <= y + height


def test_a_widget_that_another_node_feeds():
    graph = kijai()
    graph["4"]["inputs"]["vae_name"] = "x"
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "KolorsSampler")
    sampler["seed"] = graph.node("PrimitiveNode", value=11)
    new, _ = convert(as_canvas(graph))
    assert not canvas_faults(new)
    (node,) = nodes_of(new, "KolorsKSampler")
    (seed,) = (one for one in node["inputs"] if one["name"] == "seed")
    assert seed["widget"] == {"name": "seed"} and seed["link"]


@pytest.mark.parametrize("count", [1, 3])
def test_reroutes_of_types_that_change_go(count):
    graph = kijai()
    model = ["1", 0]
    for _ in range(count):
        model = graph.node("Reroute", **{"": model})
    embeds = graph.node("Reroute", **{"": ["3", 0]})
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "KolorsSampler")
    sampler |= {"kolors_model": model, "kolors_embeds": embeds}
    new, report = convert(as_canvas(graph))
    assert not canvas_faults(new) and not report.left
    assert not nodes_of(new, "Reroute")


def test_reroutes_of_other_types_stay():
    graph = text_to_image()
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "KSampler")
    sampler["model"] = graph.node("Reroute", **{"": sampler["model"]})
    new, _ = convert(as_canvas(graph))
    assert len(nodes_of(new, "Reroute")) == 1 and not canvas_faults(new)


def test_a_ring_of_reroutes_ends(form):
    graph = text_to_image()
    encode = next(node["inputs"] for node in graph.values() if node["class_type"] == "MZ_ChatGLM3_V2")
    first = graph.node("Reroute")
    second = graph.node("Reroute", **{"": first})
    graph[first[0]]["inputs"][""] = second
    encode["chatglm3_model"] = second
    _, report = convert(form(graph))
    assert any("clip" in line and "not connected" in line for line in report.notes)


def subgraph_of(prompt: OldGraph) -> dict:
    """A canvas with one box; in it the prompts of a graph, whose encoder is outside."""
    inner = as_canvas(prompt)
    (loader,) = nodes_of(inner, "MZ_ChatGLM3Loader")
    inner["nodes"].remove(loader)
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(keys, link)) for link in inner["links"]]
    for link in links:
        if link["origin_id"] == loader["id"]:
            link |= {"origin_id": -10, "origin_slot": 0}
    into = [link["id"] for link in links if link["origin_id"] == -10]
    sampled = next(link for link in links if link["type"] == "LATENT" and link["target_slot"] == 0)
    out = sampled | {"id": 900, "target_id": -20, "target_slot": 0}
    next(node for node in inner["nodes"] if node["id"] == out["origin_id"])["outputs"][0]["links"].append(900)
    definition = {
        "id": "box",
        "name": "Prompts",
        "state": {"lastNodeId": inner["last_node_id"], "lastLinkId": 900, "lastGroupId": 0, "lastRerouteId": 0},
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 100]},
        "outputNode": {"id": -20, "bounding": [900, 0, 100, 100]},
        "inputs": [{"id": "i", "name": "chatglm3_model", "type": "CHATGLM3MODEL", "linkIds": into}],
        "outputs": [{"id": "o", "name": "LATENT", "type": "LATENT", "linkIds": [900]}],
        "nodes": inner["nodes"],
        "links": [*links, out],
        "groups": [],
    }
    encode = nodes_of(inner, "MZ_ChatGLM3_V2")[0]
    unet = nodes_of(inner, "MZ_KolorsUNETLoaderV2")[0]
    box = {
        "id": 101,
        "type": "box",
        "pos": [500, 0],
        "size": [200, 80],
        "mode": 0,
        "inputs": [{"name": "chatglm3_model", "type": "CHATGLM3MODEL", "link": 1}],
        "outputs": [{"name": "LATENT", "type": "LATENT", "links": [2]}],
        "properties": {"proxyWidgets": [[str(encode["id"]), "text"], [str(unet["id"]), "unet_name"]]},
        "widgets_values": [],
    }
    save = nodes_of(inner, "SaveLatent")[0]
    outer_save = save | {"id": 102, "pos": [900, 0], "inputs": [{"name": "samples", "type": "LATENT", "link": 2}]}
    outer_loader = loader | {"id": 100, "pos": [0, 0], "outputs": [loader["outputs"][0] | {"links": [1]}]}
    return {
        "last_node_id": 102,
        "last_link_id": 2,
        "nodes": [outer_loader, box, outer_save],
        "links": [[1, 100, 0, 101, 0, "CHATGLM3MODEL"], [2, 101, 0, 102, 0, "LATENT"]],
        "groups": [],
        "definitions": {"subgraphs": [definition]},
        "version": 0.4,
    }


def test_nodes_in_a_subgraph_and_its_edges():
    old = subgraph_of(text_to_image())
    assert not canvas_faults(old)
    new, report = convert(old)
    assert not report.left and not canvas_faults(new)
    (definition,) = new["definitions"]["subgraphs"]
    assert not {node["type"] for node in definition["nodes"]} & set(TABLE)
    assert definition["inputs"][0]["type"] == "CLIP" and len(definition["inputs"][0]["linkIds"]) == 2
    assert definition["outputs"][0]["linkIds"] == [900]
    box = next(node for node in new["nodes"] if node["type"] == "box")
    assert box["inputs"][0]["type"] == "CLIP" and new["links"][0][5] == "CLIP"
    assert isinstance(definition["links"][0], dict)


def test_a_promoted_widget_keeps_its_node():
    old = subgraph_of(text_to_image())
    box = next(node for node in old["nodes"] if node["type"] == "box")
    inside = old["definitions"]["subgraphs"][0]
    inside["nodes"].append(
        nodes_of(as_canvas(text_to_image()), "MZ_ChatGLM3Loader")[0] | {"pos": [0, 5000], "outputs": []}
    )
    promoted = box["properties"]["proxyWidgets"]
    promoted.append([str(inside["nodes"][-1]["id"]), "chatglm3_checkpoint"])
    new, _ = convert(old)
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
    new, report = convert(old)
    assert "KolorsSampler" in report.left[0] and "not connected" in report.left[0]
    assert not canvas_faults(new, overlapping=True)


def test_group_nodes_of_older_front_ends_are_named():
    old = as_canvas(text_to_image())
    old["extra"]["groupNodes"] = {"Prompt": {"nodes": [{"type": "MZ_ChatGLM3_V2"}, {"type": "Note"}]}}
    _, report = convert(old)
    assert "group node 'Prompt'" in report.left[0] and "MZ_ChatGLM3_V2" in report.left[0]


def test_links_as_objects_and_bends_of_links():
    old = as_canvas(old_graphs.control_net(patch=True, loader="ControlNetLoader"))
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    gone = next(link[0] for link in old["links"] if link[5] == "CONTROL_NET")
    stays = next(link[0] for link in old["links"] if link[5] == "LATENT")
    old["links"] = [dict(zip(keys, link)) | {"parentId": 1} for link in old["links"]]
    old["state"] = {"lastNodeId": old.pop("last_node_id"), "lastLinkId": old.pop("last_link_id")}
    old["reroutes"] = [{"id": 1, "linkIds": [gone, stays]}]
    new, _ = convert(old)
    assert not canvas_faults(new)
    assert new["reroutes"][0]["linkIds"] == [stays] and "last_node_id" not in new
    assert next(link for link in new["links"] if link["id"] == stays)["parentId"] == 1


def test_graphs_without_old_nodes_stay_the_same(form):
    graph = OldGraph()
    graph.save(graph.node("EmptyLatentImage", **old_graphs.TINY))
    old = form(graph)
    new, report = convert(old)
    assert new == old and not report.mapped
    assert report.text().startswith("Nothing to convert")


def test_a_posted_prompt_keeps_its_envelope():
    new, _ = convert({"prompt": text_to_image(), "client_id": "x"})
    assert new["client_id"] == "x" and nodes_of(new["prompt"], "KolorsUNETLoader")


@pytest.mark.parametrize("data", [[], {}, 3, "x", None, {"nodes": []}, {"1": {"inputs": {}}}])
def test_what_is_no_graph_is_named(data):
    with pytest.raises(NotAGraph, match="not a graph of ComfyUI"):
        convert(data)


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
        convert(canvas)


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
            result, _ = convert(graph)
        except NotAGraph as error:
            assert "graph" in str(error)
        else:
            json.dumps(result)


# ---- the command ----------------------------------------------------------------------------------------------------


def migrate(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """The command in plain Python: -S leaves out installed packages."""
    command = [sys.executable, "-S", "-m", "kolors_core.migrate", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONIOENCODING": "utf-8", **options}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", env=environment)


@pytest.fixture
def old_file(tmp_path):
    path = tmp_path / "old 图.json"
    path.write_text(json.dumps(as_canvas(kijai("a (red) apple")), ensure_ascii=False), encoding="utf-8")
    return path


def test_the_command_writes_the_graph_and_says_what_it_did(old_file, tmp_path):
    done = migrate(old_file, tmp_path / "new.json")
    assert done.returncode == 0, done.stderr
    new = json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))
    assert nodes_of(new, "KolorsKSampler") and not canvas_faults(new)
    assert "KolorsSampler -> " in done.stdout and "round brackets" in done.stdout and "VAEDecode" in done.stdout


def test_the_command_reports_on_a_console_without_chinese(old_file, tmp_path):
    assert migrate(old_file, tmp_path / "新.json", PYTHONIOENCODING="ascii").returncode == 0


def png(**texts: str) -> bytes:
    """The beginning of a PNG with texts; its chunks are not checked."""
    chunks = [(b"tEXt", key.encode() + b"\0" + text.encode()) for key, text in texts.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + b"\0" * 4 for kind, data in chunks
    )


def test_the_command_reads_the_graph_in_a_png(tmp_path):
    prompt, workflow = text_to_image(), as_canvas(text_to_image())
    (tmp_path / "a.png").write_bytes(png(prompt=json.dumps(prompt), workflow=json.dumps(workflow, ensure_ascii=False)))
    (tmp_path / "b.png").write_bytes(png(prompt=json.dumps(prompt)))
    for name, key in (("a", "nodes"), ("b", "1")):
        assert migrate(tmp_path / f"{name}.png", tmp_path / f"{name}.json").returncode == 0
        new = (tmp_path / f"{name}.json").read_text(encoding="utf-8")
        assert key in json.loads(new) and "一只红苹果" in new


@pytest.mark.parametrize(
    "content, words",
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[1]", "not a graph"),
        (png(parameters="x"), "nor a PNG"),
        (png(workflow="x")[:20], "nor a PNG"),
    ],
)
def test_bad_files_are_named(tmp_path, content, words):
    (tmp_path / "bad.json").write_bytes(content)
    done = migrate(tmp_path / "bad.json", tmp_path / "new.json")
    assert done.returncode != 0 and words in done.stderr and "bad.json" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "new.json").exists()


def test_bad_paths_are_named(old_file, tmp_path):
    before = old_file.read_bytes()
    (tmp_path / "there.json").write_text("mine")
    for arguments, words in (
        ((tmp_path / "gone.json", tmp_path / "new.json"), "cannot be read"),
        ((tmp_path, tmp_path / "new.json"), "cannot be read"),
        ((old_file, tmp_path / "no folder" / "new.json"), "cannot be written"),
        ((old_file, tmp_path, "--overwrite"), "cannot be written"),
        ((old_file, old_file), "never overwritten"),
        ((old_file, tmp_path / "." / old_file.name, "--overwrite"), "never overwritten"),
        ((old_file, tmp_path / "there.json"), "exists already"),
        ((old_file,), "required"),
    ):
        done = migrate(*arguments)
        assert done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr
    assert old_file.read_bytes() == before and (tmp_path / "there.json").read_text() == "mine"
    assert migrate(old_file, tmp_path / "there.json", "--overwrite").returncode == 0
