"""What becomes of the nodes of ComfyUI-KwaiKolorsWrapper."""

from __future__ import annotations

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import canvas_faults, inputs_of, nodes_of
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
    index = "diffusers/Kolors/text_encoder/pytorch_model.bin.index.json"
    assert encoder == {"text_encoder_name": index, "weight_dtype": "int8"}


def test_the_loaders_read_what_the_package_downloaded_where_it_is(form):
    result, report = convert_graph(form(kijai()))
    places = {
        "KolorsUNETLoader": "diffusers/Kolors/unet/diffusion_pytorch_model.fp16.safetensors",
        "KolorsChatGLM3Loader": "diffusers/Kolors/text_encoder/pytorch_model.bin.index.json",
    }
    for kind, name in places.items():
        (node,) = nodes_of(result, kind)
        assert name in (node.get("widgets_values") or node["inputs"].values())
        assert any(f"models/{name}" in line for line in report.notes)
    assert not any(word in line for line in report.notes for word in ("Move", "Copy"))


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
    graph.node("easy showAnything", anything=["3", 0])
    result, report = convert_graph(form(graph))
    assert nodes_of(result, "KolorsTextEncode") and nodes_of(result, "KolorsSampler")
    show, encode, sampler = report.left
    assert "easy showAnything: it takes KOLORS_EMBEDS" in show
    assert "KolorsTextEncode: its output goes into" in encode and "KolorsSampler: its kolors_embeds" in sampler


def test_a_contest_lora_gets_its_strength_from_alpha_and_rank(form):
    result, report = convert_graph(form(old_graphs.contest_lora()))
    (node,) = nodes_of(result, "KolorsLoraLoader")
    if "nodes" in result:
        assert node["widgets_values"][:2] == ["epoch=0-step=500.ckpt", 0.125]
    else:
        assert node["inputs"]["lora_name"] == "epoch=0-step=500.ckpt" and node["inputs"]["strength_model"] == 0.125
        assert inputs_of(result, "KolorsKSampler")[0]["model"] == ("KolorsLoraLoader", 0)
    (line,) = (line for line in report.notes if "LoadKolorsLoRA" in line)
    assert "/data/epoch=0-step=500.ckpt" in line and "models/loras" in line and "2.0 / 16" in line
    assert not report.left


def test_the_loader_of_the_first_day_becomes_two(form):
    result, report = convert_graph(form(old_graphs.first_day(latent=True)))
    assert len(nodes_of(result, "KolorsUNETLoader")) == len(nodes_of(result, "KolorsChatGLM3Loader")) == 1
    assert not any("not connected" in line for line in report.notes)
    assert any("models/diffusers/Kolors/text_encoder" in line for line in report.notes)
    if "nodes" not in result:
        assert {one["clip"] for one in inputs_of(result, "KolorsPromptEncode")} == {("KolorsChatGLM3Loader", 0)}


def test_a_sampler_that_gave_a_picture_is_followed_by_a_decoder(form):
    result, report = convert_graph(form(old_graphs.first_day(latent=False)))
    (line,) = (line for line in report.notes if "gave an image" in line)
    assert "KolorsSampler" in line and "SDXL's VAE" in line and "diffusers/Kolors" in line
    if "nodes" in result:
        assert not canvas_faults(result) and len(nodes_of(result, "VAEDecode")) == 1
    else:
        assert inputs_of(result, "SaveImage")[0]["images"] == ("VAEDecode", 0)
        assert inputs_of(result, "VAEDecode") == [{"samples": ("KolorsKSampler", 0), "vae": ("VAELoader", 0)}]


@pytest.mark.parametrize(
    "precision, dtype", [("quant8", "int8"), ("quant4", "int4"), ("fp16", "fp16"), (None, "default")]
)
def test_the_precision_that_the_loader_of_one_file_had_for_an_hour(precision, dtype):
    graph = old_graphs.local_encoder()
    graph["2"]["inputs"] |= {"precision": precision} if precision else {}
    prompt, _ = convert_graph(graph)
    assert inputs_of(prompt, "KolorsChatGLM3Loader")[0]["weight_dtype"] == dtype


def test_a_node_of_another_package_under_the_same_name_stays(form):
    graph = old_graphs.OldGraph({"KolorsTextEncode": ([], ["text"], ["CONDITIONING"])})
    graph.sample(graph.unet(), *(graph.node("KolorsTextEncode", text=text) for text in "ab"))
    result, report = convert_graph(form(graph))
    assert len(nodes_of(result, "KolorsTextEncode")) == 2 and not nodes_of(result, "KolorsPromptEncode")
    assert len(report.left) == 2 and "another package" in report.left[0]
