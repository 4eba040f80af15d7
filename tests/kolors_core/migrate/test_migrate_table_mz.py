"""What becomes of the nodes of ComfyUI-Kolors-MZ."""

from __future__ import annotations

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, canvas_faults, inputs_of, nodes_of


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
    text = graph.node("CLIPTextEncode", text="of another model")
    graph.node("ControlNetApply", **apply["inputs"] | {"control_net": [loader, 0], "conditioning": text})
    result, _ = convert_graph(form(graph))
    assert len(nodes_of(result, "ControlNetLoader")) == len(nodes_of(result, "KolorsControlNetLoader")) == 1


def test_a_patch_of_an_unknown_loader_stays_and_is_named(form):
    graph = old_graphs.control_net(patch=True, loader="ControlNetLoader")
    loader = next(node for node in graph.values() if node["class_type"] == "ControlNetLoader")
    loader |= {"class_type": "easy showAnything", "inputs": {}}
    result, report = convert_graph(form(graph))
    assert nodes_of(result, "MZ_KolorsControlNetPatch") and not nodes_of(result, "KolorsControlNetLoader")
    (line,) = report.left
    assert "easy showAnything" in line and "Load Kolors ControlNet" in line


def test_the_first_loader_keeps_the_schedule_of_sdxl(form):
    result, report = convert_graph(form(old_graphs.legacy()))
    (node,) = nodes_of(result, "KolorsModelSampling")
    assert any("MZ_KolorsUNETLoader: SDXL's schedule is kept" in line for line in report.notes)
    if "nodes" in result:
        assert node["widgets_values"] == ["sdxl"]
    else:
        assert inputs_of(result, "KSampler")[0]["model"] == ("KolorsModelSampling", 0)
        assert inputs_of(result, "KolorsModelSampling") == [{"model": ("KolorsUNETLoader", 0), "schedule": "sdxl"}]


def test_the_second_loader_has_the_schedule_of_kolors(form):
    result, _ = convert_graph(form(old_graphs.text_to_image()))
    assert not nodes_of(result, "KolorsModelSampling")


def test_the_type_of_a_union_is_chosen_behind_the_new_loader(form):
    result, report = convert_graph(form(old_graphs.unioned()))
    assert not report.left and len(nodes_of(result, "SetUnionControlNetType")) == 1
    assert not nodes_of(result, "ControlNetLoader") and not nodes_of(result, "MZ_KolorsControlNetPatch")
    if "nodes" in result:
        assert not canvas_faults(result)
    else:
        assert inputs_of(result, "ControlNetApply")[0]["control_net"] == ("SetUnionControlNetType", 0)
        assert inputs_of(result, "SetUnionControlNetType")[0]["control_net"] == ("KolorsControlNetLoader", 0)
        assert inputs_of(result, "KolorsControlNetLoader")[0]["model"] == ("KolorsUNETLoader", 0)


def test_a_union_that_feeds_others_too_is_named():
    graph = old_graphs.unioned()
    (key,) = (key for key, node in graph.items() if node["class_type"] == "SetUnionControlNetType")
    apply = next(node for node in graph.values() if node["class_type"] == "ControlNetApply")
    graph.node("ControlNetApply", **apply["inputs"] | {"control_net": [key, 0]})
    _, report = convert_graph(graph)
    (line,) = report.left
    assert "MZ_KolorsControlNetPatch" in line and "SetUnionControlNetType" in line and "feeds other nodes" in line


def test_a_bypassed_patch_still_passes_its_control_net_on():
    canvas = as_canvas(old_graphs.control_net(patch=True))
    (patch,) = nodes_of(canvas, "MZ_KolorsControlNetPatch")
    patch["mode"] = 4
    new, _ = convert_graph(canvas)
    (loader,), (apply,) = nodes_of(new, "KolorsControlNetLoader"), nodes_of(new, "ControlNetApply")
    assert loader["mode"] == 0 and loader["inputs"][0]["link"] is None
    assert loader["outputs"][0]["links"] == [apply["inputs"][1]["link"]]


@pytest.mark.parametrize("union", [False, True])
def test_a_stock_control_net_without_a_patch_gets_the_loader_of_kolors(union, form):
    """The pack's first versions needed no patch; here the stock loader's ControlNet would be refused."""
    graph = old_graphs.control_net(patch=False, loader="ControlNetLoader")
    apply = next(node["inputs"] for node in graph.values() if node["class_type"] == "ControlNetApply")
    if union:
        apply["control_net"] = graph.node("SetUnionControlNetType", control_net=apply["control_net"], type="auto")
    result, report = convert_graph(form(graph))
    assert not nodes_of(result, "ControlNetLoader")
    assert any("ControlNetLoader -> KolorsControlNetLoader" in line for line in report.mapped)
    if "nodes" in result:
        assert not canvas_faults(result)
        assert nodes_of(result, "KolorsControlNetLoader")[0]["inputs"][0]["link"]
    else:
        assert inputs_of(result, "KolorsControlNetLoader")[0]["model"] == ("KolorsUNETLoader", 0)


def test_a_stock_control_net_for_another_model_stays(form):
    graph = old_graphs.text_to_image()
    text = graph.node("CLIPTextEncode", text="a cat")
    control = graph.node("ControlNetLoader", control_net_name="x")
    graph.node("ControlNetApply", conditioning=text, control_net=control, image=graph.image(), strength=1.0)
    result, _ = convert_graph(form(graph))
    assert len(nodes_of(result, "ControlNetLoader")) == 1 and not nodes_of(result, "KolorsControlNetLoader")
