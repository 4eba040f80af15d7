"""What becomes of the Kolors loader of ComfyUI-Easy-Use."""

from __future__ import annotations

import old_graphs
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import inputs_of, nodes_of


def test_easy_loader():
    prompt, _ = convert_graph(old_graphs.easy(lora_name="style.safetensors", resolution="128 x 64"))
    (lora,) = inputs_of(prompt, "KolorsLoraLoader")
    assert (lora["strength_model"], lora["strength_clip"], lora["lora_name"]) == (0.5, 0.25, "style.safetensors")
    assert inputs_of(prompt, "KSampler")[0]["model"] == ("KolorsLoraLoader", 0)
    assert inputs_of(prompt, "VAEDecode")[0]["vae"] == ("VAELoader", 0)


def test_easy_loader_with_a_pipe(form):
    result, report = convert_graph(form(old_graphs.easy(pipe=True)))
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
    result, report = convert_graph(form(graph))
    assert not nodes_of(result, "KolorsUNETLoader") and nodes_of(result, "UNETLoader")
    assert any("LoRA stack" in line for line in report.notes)
