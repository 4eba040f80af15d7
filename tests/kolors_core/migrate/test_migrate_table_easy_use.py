"""What becomes of the Kolors loader of ComfyUI-Easy-Use."""

from __future__ import annotations

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from comfyui_kolors.kolors_core.migrate.table.easy_use import read_timestep
from graph_files import inputs_of, nodes_of


def test_easy_loader():
    prompt, _ = convert_graph(old_graphs.easy(lora_name="style.safetensors", resolution="128 x 64"))
    (lora,) = inputs_of(prompt, "KolorsLoraLoader")
    assert (lora["strength_model"], lora["lora_name"]) == (0.5, "style.safetensors")
    assert "clip" not in lora, "the old node loaded it without the text encoder"
    assert inputs_of(prompt, "KSampler")[0]["model"] == ("KolorsLoraLoader", 0)
    assert lora["model"] == ("KolorsModelSampling", 0), "the old node sampled on the schedule of SDXL"
    assert inputs_of(prompt, "KolorsModelSampling") == [{"model": ("KolorsUNETLoader", 0), "schedule": "sdxl"}]
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


def test_break_and_timestep_become_nodes():
    prompt, report = convert_graph(
        old_graphs.easy(True, positive="a cat BREAK  a dog TIMESTEP:0.1:0.5", negative="plain ")
    )
    assert [one["text"] for one in inputs_of(prompt, "KolorsPromptEncode")][-3:] == ["a cat", "a dog", "plain"]
    (joined,) = nodes_of(prompt, "ConditioningConcat")
    assert [prompt[joined["inputs"][f"conditioning_{end}"][0]]["inputs"]["text"] for end in ("to", "from")] == [
        "a cat",
        "a dog",
    ]
    zeros, text = inputs_of(prompt, "ConditioningSetTimestepRange")
    assert zeros == {"conditioning": ("ConditioningZeroOut", 0), "start": 0.1, "end": 0.5}
    assert text == {"conditioning": ("ConditioningConcat", 0), "start": 0.0, "end": 0.1}
    assert len(nodes_of(prompt, "ConditioningCombine")) == 1
    assert not any("|" in line for line in report.notes)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a TIMESTEP", (0.1, 1.0, "a ")),
        ("a TIMESTEP:0.3 b", (0.3, 1.0, "a  b")),
        ("TIMESTEP:0.2:0.6:9 a", (0.2, 0.6, " a")),
        ("a TIMESTEP:x:1", (0.0, 1.0, "a TIMESTEP:x:1")),
        ("TIMESTEP:0.2 a\nb", (0.0, 1.0, "TIMESTEP:0.2 a\nb")),
        ("", (0.0, 1.0, "")),
    ],
)
def test_timesteps_as_that_pack_reads_them(text, expected):
    assert read_timestep(text) == expected


def test_prompts_for_each_image_of_a_batch_are_said(form):
    result, report = convert_graph(form(old_graphs.easy(True, positive="{a|b} cat", negative="c|d")))
    (line,) = (line for line in report.notes if "image of the batch" in line)
    assert "easy kolorsLoader: its negative prompt" in line
    assert len(nodes_of(result, "KolorsPromptEncode")) == 4


def test_a_face_adapter_gets_its_files_from_loaders():
    prompt, report = convert_graph(old_graphs.easy_face())
    (node,) = inputs_of(prompt, "KolorsFaceIDApply")
    assert node["ipadapter"] == ("KolorsIPAdapterLoader", 0) and node["clip_vision"] == ("CLIPVisionLoader", 0)
    assert inputs_of(prompt, "PreviewImage") == [{"images": ("KolorsFaceIDApply", 2)}]
    assert any("located its files by itself" in line for line in report.notes)
    assert any("weight_kolors 0.8 has no counterpart" in line for line in report.notes)
