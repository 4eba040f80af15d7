"""Links and values that no workflow should have, through the HTTP API: each is named, and the server goes on."""

from __future__ import annotations

import json

import pytest
import torch
from client import ENCODER, UNET, KolorsGraph, Link, PromptError
from comfyui_kolors.demo.random_models import TINY, random_control_net, random_ip_adapter, random_unet
from loras import random_pairs, written
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host
runs = pytest.mark.usefixtures("goes_on")  # what is refused before it runs leaves nothing to check

CONTROL_NET, ADAPTER, LORA = "for-sdxl-control.safetensors", "for-sdxl-adapter.safetensors", "for-sdxl-lora.safetensors"
SDXL, SD15 = {"width": 2048, "pooled_width": 1280}, {"width": 768, "pooled_width": 0}


def fail(server, graph, samples) -> PromptError:
    """How the prompt ended, which has to be an error."""
    with pytest.raises(PromptError) as failure:
        server.latent(graph, samples)
    return failure.value


# ---- links ----------------------------------------------------------------------------------------------------------


def encoder_as_model(graph):
    return graph.sample(model=graph.clip)


def model_as_encoder(graph):
    return graph.sample(graph.add("KolorsPromptEncode", clip=graph.model, text="a"))


def text_as_link(graph):
    return graph.add("KolorsScheduler", model="a text", scheduler="euler", steps=2, denoise=1.0)


def nothing(graph):
    return graph.sample(graph.add("KolorsPromptEncode", text="a"))


def no_such_output(graph):
    return graph.sample(model=graph.model.output(7))


def no_such_node(graph):
    return graph.sample(model=Link(("999", 0)))


def circle(graph):
    sampled = graph.sample()
    graph[sampled[0]]["inputs"]["latent_image"] = list(sampled)
    return sampled


def no_such_class(graph):
    return graph.add("KolorsSamplerOfAnotherPack", model=graph.model)


WRONG_LINKS = [
    encoder_as_model, model_as_encoder, text_as_link, nothing, no_such_output, no_such_node, circle, no_such_class,
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_LINKS)
def test_a_wrong_link_is_refused(server, wrong):
    graph = KolorsGraph()
    samples = wrong(graph)
    answer = server.request("/prompt", {"prompt": graph | {"99": save(samples)}})
    assert "prompt_id" not in answer or answer["node_errors"], answer
    assert answer.get("error"), answer


def save(samples: Link) -> dict:
    return {"class_type": "SaveLatent", "inputs": {"samples": list(samples), "filename_prefix": "latents/wrong"}}


# ---- values ---------------------------------------------------------------------------------------------------------

WRONG_VALUES = {
    "KolorsUNETLoader": [
        {"unet_name": "../../../etc/passwd"}, {"unet_name": ""}, {"unet_name": 5}, {"unet_name": [1, 2, 3]},
        {"weight_dtype": "int3"},
    ],
    "KolorsChatGLM3Loader": [
        {"text_encoder_name": "/etc/passwd"}, {"weight_dtype": "int2"}, {"device": "quantum"},
    ],
    "KolorsPromptEncode": [
        {"max_tokens": 0}, {"max_tokens": 1 << 40}, {"max_tokens": "many"}, {"width": -8}, {"crop_h": 1 << 20},
        {"width": float("nan")},
    ],
    "KolorsKSampler": [
        {"steps": 0}, {"steps": -1}, {"steps": 10**9}, {"steps": "few"}, {"steps": float("inf")}, {"cfg": -1.0},
        {"cfg": 1e9}, {"cfg": "x"}, {"denoise": 1.5}, {"denoise": -0.1}, {"seed": -1}, {"seed": 1 << 64},
        {"sampler": "ddim"}, {"sampler": 3},
    ],
    "KolorsModelSampling": [{"schedule": "sd3"}],
}  # fmt: skip


def with_values(graph, changed: str, values: dict) -> Link:
    """The plain graph through our own nodes, with other values in one of them."""

    def add(node, **inputs):
        return graph.add(node, **inputs | (values if node == changed else {}))

    model = add("KolorsUNETLoader", unet_name=UNET, weight_dtype="default")
    model = add("KolorsModelSampling", model=model, schedule="kolors")
    clip = add("KolorsChatGLM3Loader", text_encoder_name=ENCODER, weight_dtype="default")
    prompt = add("KolorsPromptEncode", clip=clip, text="a red apple")
    settings = {"seed": 1, "steps": 2, "cfg": 5.0, "sampler": "euler", "denoise": 1.0}
    latent = graph.empty_latent()
    return add("KolorsKSampler", model=model, positive=prompt, negative=prompt, latent_image=latent, **settings)


@runs
def test_the_right_values_are_taken(server):
    graph = KolorsGraph()
    assert server.latent(graph, with_values(graph, "", {})).isfinite().all()


@pytest.mark.parametrize(
    ("node", "values"), [(node, values) for node, cases in WRONG_VALUES.items() for values in cases], ids=str
)
def test_a_wrong_value_is_refused_before_anything_runs(server, node, values):
    graph = KolorsGraph()
    failure = fail(server, graph, with_values(graph, node, values))
    assert failure.kind == "validation", failure
    (name,) = values
    errors = [error for entry in json.loads(str(failure))["node_errors"].values() for error in entry["errors"]]
    assert [error["extra_info"]["input_name"] for error in errors] == [name]


@runs
def test_no_name_at_all_is_named_by_the_loader(server):
    """The host hands the same to a loader's check for a name that comes from another node."""
    graph = KolorsGraph()
    failure = fail(server, graph, with_values(graph, "KolorsUNETLoader", {"unet_name": None}))
    assert (failure.kind, failure.node) == ("FileNotFoundError", "KolorsUNETLoader")
    assert "None was not found. Put it in one of these folders" in str(failure)


@runs
@pytest.mark.parametrize("values", [{"denoise": float("nan")}, {"cfg": float("nan")}], ids=str)
def test_what_is_no_number_is_named_by_the_sampler(server, values):
    """JSON knows no NaN, but the server's reader does, and NaN is neither too small nor too large."""
    graph = KolorsGraph()
    failure = fail(server, graph, with_values(graph, "KolorsKSampler", values))
    assert (failure.kind, failure.node) == ("KolorsError", "KolorsKSampler"), failure
    assert next(iter(values)) in str(failure)


@runs
@pytest.mark.parametrize("prefix", ["../../outside", "/tmp/outside", "a/../../../outside"])
def test_a_file_is_not_written_outside_of_the_output_folder(server, prefix):
    graph = KolorsGraph()
    graph.add("KolorsConditioningSave", conditioning=graph.encode(), filename_prefix=prefix, precision="fp32")
    with pytest.raises(PromptError) as failure:
        server.run(graph)
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KolorsConditioningSave")
    assert prefix in str(failure.value) and str(server.base / "output") in str(failure.value)
    assert not list(server.base.parent.glob("outside*")) + list(server.base.glob("outside*"))


@pytest.mark.parametrize("name", ["../secret.safetensors", "../secret.safetensors [output]", "/etc/passwd"])
def test_a_conditioning_is_not_read_outside_of_its_folders(server, name):
    graph = KolorsGraph()
    failure = fail(server, graph, graph.sample(graph.add("KolorsConditioningLoad", conditioning_name=name)))
    assert failure.kind == "validation"


# ---- models that do not belong together -----------------------------------------------------------------------------


@runs
@pytest.mark.parametrize("sampler", ["KSampler", "KolorsKSampler"])
@pytest.mark.parametrize(
    ("widths", "words"),
    [
        (SDXL, ["width 2048 (SDXL)"]),
        (SD15, ["width 768 (SD1.5)"]),
        ({"width": 4096, "pooled_width": 4096}, ["width 4096 (ChatGLM3 or T5)"]),
        ({"width": TINY.hidden, "pooled_width": 0}, ["a pooled embedding", "none"]),
        ({"width": TINY.hidden, "pooled_width": 1280}, ["a pooled embedding", "width 1280"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["positive", "negative"])
def test_conditioning_of_another_width_is_named_by_the_sampler(server, sampler, widths, words, place):
    graph = KolorsGraph()
    inputs = {"positive": graph.encode(), "negative": graph.encode("")}
    inputs[place] = graph.add("KolorsTestWidths", **widths)
    if sampler == "KSampler":
        samples = graph.sample(**inputs)
    else:
        settings = {"seed": 1, "steps": 2, "cfg": 5.0, "sampler": "euler", "denoise": 1.0}
        samples = graph.add(sampler, model=graph.model, latent_image=graph.empty_latent(), **settings, **inputs)
    failure = fail(server, graph, samples)
    assert (failure.kind, failure.node) == ("KolorsError", sampler)
    what = words[0] if words[0] == "a pooled embedding" else "text embeddings"
    assert f"needs {what} of width {TINY.hidden}" in str(failure)
    for word in (*words, "Load Kolors ChatGLM3 Text Encoder"):
        assert word in str(failure)


@runs
@pytest.mark.parametrize("sampler", ["KSampler", "KolorsKSampler"])
def test_a_latent_of_a_video_is_named_by_the_sampler(server, sampler):
    graph = KolorsGraph()
    video = graph.add("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)
    if sampler == "KSampler":
        samples = graph.sample(latent=video)
    else:
        settings = {"seed": 1, "steps": 2, "cfg": 5.0, "sampler": "euler", "denoise": 1.0}
        prompts = {"positive": graph.encode(), "negative": graph.encode("")}
        samples = graph.add(sampler, model=graph.model, latent_image=video, **settings, **prompts)
    failure = fail(server, graph, samples)
    assert (failure.kind, failure.node) == ("KolorsError", sampler), failure
    assert "needs latents of the shape (images, 4, height / 8, width / 8)" in str(failure)


@runs
@pytest.mark.parametrize("loader", ["KolorsUNETLoader", "UNETLoader"])
def test_a_unet_of_another_task_is_refused_by_the_loader(server, loader):
    """As InstructPix2Pix has it, with the image beside the latent, under the names of a checkpoint."""
    unet = load_file(server.base / "models/diffusion_models" / UNET)
    unet = comfy_names(unet | {"conv_in.weight": unet["conv_in.weight"].repeat(1, 2, 1, 1)})
    save_file(unet, server.base / "models/diffusion_models/eight-channels.safetensors")
    graph = KolorsGraph()
    model = graph.add(loader, unet_name="eight-channels.safetensors", weight_dtype="default")
    failure = fail(server, graph, graph.sample(model=model))
    assert (failure.kind, failure.node) == ("KolorsError", loader), failure
    assert "is a Kolors UNet of 8 input and 4 output channels. Expected 4 of each" in str(failure)


def comfy_names(unet):
    """A UNet of diffusers under the names that the stock loader reads."""
    from comfyui_kolors.kolors_core.host.unet_file import extract_unet

    return extract_unet(unet)[0]


class SDXLGraph(KolorsGraph):
    """The host's own SDXL beside the plain graph."""

    def __init__(self):
        super().__init__()
        self.sdxl = self.add("KolorsTestSDXL")
        self.sdxl_prompt = self.add("KolorsTestWidths", **SDXL)


def test_sdxl_runs_beside_kolors(server, plain):
    graph = SDXLGraph()
    found = server.latent(graph, graph.sample(graph.sdxl_prompt, graph.sdxl_prompt, model=graph.sdxl))
    assert found.isfinite().all() and not torch.equal(found, plain)
    again = SDXLGraph()
    assert torch.equal(server.latent(again, again.sample()), plain)


@runs
def test_kolors_conditioning_in_sdxl_ends_in_the_hosts_words(server):
    """The model is the host's, and nothing of the host is ours to change; the queue goes on all the same."""
    graph = SDXLGraph()
    failure = fail(server, graph, graph.sample(model=graph.sdxl))
    assert (failure.kind, failure.node) == ("RuntimeError", "KSampler")


@pytest.fixture(scope="module")
def files(server) -> None:
    models = server.base / "models"
    for folder in ("controlnet", "ipadapter", "loras"):
        (models / folder).mkdir(exist_ok=True)
    save_file(random_control_net(TINY).state_dict(), models / "controlnet" / CONTROL_NET)
    save_file(random_control_net(TINY, label_width=2816).state_dict(), models / "controlnet" / f"sdxl-{CONTROL_NET}")
    save_file(random_ip_adapter(TINY, 1024), models / "ipadapter" / ADAPTER)
    lora = written(random_pairs(random_unet(TINY)), "unet.{}".format, ".lora_A.weight", ".lora_B.weight")
    save_file(lora, models / "loras" / LORA)


@runs
def test_a_kolors_lora_on_sdxl_is_named(server, files):
    graph = SDXLGraph()
    settings = {"lora_name": LORA, "strength_model": 1.0, "strength_clip": 1.0}
    failure = fail(server, graph, graph.sample(model=graph.add("KolorsLoraLoader", model=graph.sdxl, **settings)))
    assert (failure.kind, failure.node) == ("KolorsError", "KolorsLoraLoader")
    assert "expects a Kolors MODEL" in str(failure)


@runs
def test_an_sdxl_control_net_is_not_adapted_to_sdxl(server, files):
    graph = SDXLGraph()
    loaded = graph.add("KolorsControlNetLoader", control_net_name=f"sdxl-{CONTROL_NET}", model=graph.sdxl)
    failure = fail(server, graph, graph.sample(controlled(graph, loaded)))
    assert (failure.kind, failure.node) == ("KolorsError", "KolorsControlNetLoader")
    assert "expects a Kolors MODEL" in str(failure)


@runs
def test_a_kolors_control_net_on_sdxl_is_named(server, files):
    graph = SDXLGraph()
    loaded = graph.add("KolorsControlNetLoader", control_net_name=CONTROL_NET)
    positive = controlled(graph, loaded, graph.sdxl_prompt)
    failure = fail(server, graph, graph.sample(positive, graph.sdxl_prompt, model=graph.sdxl))
    assert (failure.kind, failure.node) == ("KolorsError", "KSampler")
    assert "needs text embeddings of width 64; the conditioning has width 2048" in str(failure)


def controlled(graph, control_net, positive=None) -> Link:
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0xC08040)
    settings = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    prompts = {"positive": positive or graph.encode(), "negative": positive or graph.encode("")}
    return graph.add("ControlNetApplyAdvanced", control_net=control_net, image=image, **settings, **prompts)
