"""What becomes of the nodes of ComfyUI-Kolors-MZ."""

from __future__ import annotations

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import inputs_of, nodes_of


def test_embeds_become_conditionings_with_and_without_sizes():
    prompt, _ = convert_graph(old_graphs.embeds())
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
    prompt, _ = convert_graph(graph)
    assert sorted(node["inputs"]["text"] for node in nodes_of(prompt, "KolorsPromptEncode")) == ["a red apple", "ugly"]


def test_checkpoint_outputs():
    prompt, _ = convert_graph(old_graphs.checkpoint())
    assert inputs_of(prompt, "VAEDecode")[0]["vae"] == ("KolorsCheckpointLoader", 2)
    assert inputs_of(prompt, "KSampler")[0]["model"] == ("KolorsCheckpointLoader", 0)


@pytest.mark.parametrize("loader", ["MZ_KolorsControlNetLoader", "ControlNetLoader"])
def test_a_control_net_patch_becomes_the_model_of_the_loader(loader, form):
    result, report = convert_graph(form(old_graphs.control_net(patch=True, loader=loader)))
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
    result, _ = convert_graph(form(graph))
    assert len(nodes_of(result, "ControlNetLoader")) == len(nodes_of(result, "KolorsControlNetLoader")) == 1


def test_a_patch_of_an_unknown_loader_stays_and_is_named(form):
    graph = old_graphs.control_net(patch=True, loader="ControlNetLoader")
    loader = next(node for node in graph.values() if node["class_type"] == "ControlNetLoader")
    loader |= {"class_type": "SetNode", "inputs": {"Constant": "x"}}
    result, report = convert_graph(form(graph))
    assert nodes_of(result, "MZ_KolorsControlNetPatch") and not nodes_of(result, "KolorsControlNetLoader")
    (line,) = report.left
    assert "SetNode" in line and "Load Kolors ControlNet" in line
