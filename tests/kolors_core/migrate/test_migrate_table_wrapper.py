"""What becomes of the nodes of ComfyUI-KwaiKolorsWrapper."""

from __future__ import annotations

import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import inputs_of, nodes_of
from old_graphs import kijai


def test_kolors_sampler_becomes_a_kolors_ksampler():
    prompt, _ = convert_graph(kijai())
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
    prompt, _ = convert_graph(kijai(scheduler=scheduler))
    assert inputs_of(prompt, "KolorsKSampler")[0]["sampler"] == sampler


def test_prompts_parted_by_a_bar_are_sampled_one_by_one():
    prompt, report = convert_graph(kijai("a red apple | {big|small} blue bird | girl", images=2))
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
    prompt, _ = convert_graph(kijai("apple|bird", latent=True))
    samplers = inputs_of(prompt, "KolorsKSampler")
    assert [(node["latent_image"], node["denoise"]) for node in samplers] == [(("VAEEncode", 0), 0.7)] * 2
    assert not nodes_of(prompt, "EmptyLatentImage")


def test_embeds_that_go_elsewhere_stay_and_are_named(form):
    graph = kijai()
    graph.node("SetNode", value=["3", 0], Constant="prompt")
    result, report = convert_graph(form(graph))
    assert nodes_of(result, "KolorsTextEncode") and nodes_of(result, "KolorsSampler")
    assert len(report.left) == 2 and "SetNode" in report.left[0]
