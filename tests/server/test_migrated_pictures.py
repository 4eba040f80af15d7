"""What a converted graph draws: to the bit what the graph does that one builds by hand in its place."""

from __future__ import annotations

from collections.abc import Callable

import migrated
import numpy
import old_graphs
import pytest
import torch
from client import ENCODER, UNET, VAE, Client, Graph, Link
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, nodes_of, to_prompt
from old_graphs import OldGraph
from PIL import Image

pytestmark = pytest.mark.host


class ByHand(Graph):
    """A graph of this pack on the tiny models."""

    def __init__(self, weight_dtype: str = "default"):
        super().__init__()
        self.model = self.add("KolorsUNETLoader", unet_name=UNET, weight_dtype="default")
        self.clip = self.add("KolorsChatGLM3Loader", text_encoder_name=ENCODER, weight_dtype=weight_dtype)
        self.vae = self.add("VAELoader", vae_name=VAE)

    def encode(self, text: str) -> Link:
        return self.add("KolorsPromptEncode", clip=self.clip, text=text)

    def empty(self) -> Link:
        return self.add("EmptyLatentImage", width=64, height=64, batch_size=1)

    def stock(self, model: Link, positive: Link, negative: Link, sampler: str = "euler") -> ByHand:
        """The sampler of `OldGraph.sample`."""
        links = {"model": model, "positive": positive, "negative": negative, "latent_image": self.empty()}
        settings = {"seed": 3, "steps": 2, "cfg": 5.0, "sampler_name": sampler, "scheduler": "ddim_uniform"}
        return self.save(self.add("KSampler", **links, **settings, denoise=1.0))

    def ours(self, positive: Link, negative: Link, model: Link | None = None, **changes: object) -> Link:
        links = {"model": model or self.model, "positive": positive, "negative": negative}
        settings = {"seed": 7, "steps": 2, "cfg": 5, "sampler": "euler", "denoise": 1.0}
        latent = changes.pop("latent_image", None) or self.empty()
        return self.add("KolorsKSampler", **links, latent_image=latent, **settings | changes)

    def save(self, samples: Link) -> ByHand:
        self.add("SaveLatent", samples=samples, filename_prefix="latents/hand")
        return self


def contest_lora() -> ByHand:
    graph = ByHand(weight_dtype="int8")
    settings = {"strength_model": 2.0 / 16, "strength_clip": 1.0}
    lora = graph.add("KolorsLoraLoader", model=graph.model, lora_name=migrated.LORA, **settings)
    sampled = {"sampler": "dpmpp_2m_sde_karras", "steps": 3}
    return graph.save(graph.ours(graph.encode("a red apple"), graph.encode("ugly"), lora, **sampled))


def first_day() -> ByHand:
    graph = ByHand()
    return graph.save(graph.ours(graph.encode("a red apple"), graph.encode("blurry")))


def legacy() -> ByHand:
    graph = ByHand()
    model = graph.add("KolorsModelSampling", model=graph.model, schedule="sdxl")
    return graph.stock(model, graph.encode("一只红苹果, a red apple"), graph.encode("blue"))


def text_to_image(text: str = "一只红苹果, a red apple", negative: str = "blue") -> ByHand:
    graph = ByHand()
    return graph.stock(graph.model, graph.encode(text), graph.encode(negative))


def unioned() -> ByHand:
    graph = ByHand()
    control = graph.add("KolorsControlNetLoader", control_net_name=migrated.SDXL, model=graph.model)
    control = graph.add("SetUnionControlNetType", control_net=control, type="auto")
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x4080C0)
    links = {"conditioning": graph.encode("一只红苹果, a red apple"), "control_net": control, "image": image}
    return graph.stock(graph.model, graph.add("ControlNetApply", **links, strength=0.7), graph.encode("blue"))


def on_server() -> ByHand:
    graph = ByHand()
    adapter = graph.add("KolorsIPAdapterLoader", ipadapter_name=migrated.PLUS)
    vision = graph.add("CLIPVisionLoader", clip_name=migrated.TOWER)
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x4080C0)
    settings = {"weight": 0.7, "weight_type": "linear", "start_at": 0.0, "end_at": 0.9}
    links = {"model": graph.model, "ipadapter": adapter, "clip_vision": vision, "image": image}
    model = graph.add("KolorsIPAdapterApply", **links, **settings)
    control = graph.add("KolorsControlNetLoader", control_net_name=migrated.CONTROL_NET)
    links = {"conditioning": graph.encode("一只红苹果"), "control_net": control, "image": image}
    return graph.stock(model, graph.add("ControlNetApply", **links, strength=0.7), graph.encode(""))


def set_and_get() -> OldGraph:
    graph = old_graphs.text_to_image()
    encoder = next(key for key, node in graph.items() if node["class_type"] == "MZ_ChatGLM3Loader")
    graph.node("SetNode", value=[encoder, 0], Constant="glm")
    got = graph.node("GetNode", Constant="glm")
    for node in graph.values():
        if "chatglm3_model" in node["inputs"]:
            node["inputs"]["chatglm3_model"] = got
    return graph


def everywhere() -> OldGraph:
    graph = old_graphs.text_to_image()
    encoder = next(key for key, node in graph.items() if node["class_type"] == "MZ_ChatGLM3Loader")
    for node in graph.values():
        node["inputs"].pop("chatglm3_model", None)
    graph.node("Anything Everywhere", anything=[encoder, 0])
    return graph


PAIRS: dict[str, tuple[Callable[[], OldGraph], Callable[[], ByHand]]] = {
    "a LoRA of a contest": (old_graphs.contest_lora, contest_lora),
    "the first day": (lambda: old_graphs.first_day(latent=True), first_day),
    "the first loader": (old_graphs.legacy, legacy),
    "text to image": (old_graphs.text_to_image, text_to_image),
    "a union ControlNet": (old_graphs.unioned, unioned),
    "BizyAir": (old_graphs.on_server, on_server),
    "Set and Get": (set_and_get, text_to_image),
    "Use Everywhere": (everywhere, text_to_image),
}


@pytest.fixture(scope="module")
def server(migrating) -> Client:
    return migrating


@pytest.fixture(scope="module")
def info(server) -> dict:
    return server.request("/object_info")


def drawn(server: Client, prompt: dict) -> torch.Tensor:
    """The one latent of a graph, of which the server computes everything anew."""
    server.free()
    (latent,) = migrated.latents_of(server, prompt)
    return latent


@pytest.mark.parametrize("name", PAIRS)
def test_a_converted_graph_draws_what_one_built_by_hand_does(server, info, name):
    old, build = PAIRS[name]
    canvas, report = convert_graph(as_canvas(old()))
    assert not report.left
    found = drawn(server, migrated.with_tiny_files(to_prompt(canvas, info)))
    assert torch.equal(found, drawn(server, build()))


def test_the_two_schedules_draw_different_pictures(server):
    """What the conversion of the first loader keeps makes a difference."""
    first, second = drawn(server, legacy()), drawn(server, text_to_image())
    assert (first - second).norm() > 0.1 * second.norm()


def test_a_text_under_a_link_to_a_bypassed_node_is_drawn(server, info):
    old = as_canvas(old_graphs.text_to_image())
    encode = nodes_of(old, "MZ_ChatGLM3_V2")[0]
    encode["widgets_values"] = ["typed first"]
    encode["inputs"].append({"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": 60})
    shown = {"id": 60, "type": "easy showAnything", "pos": [0, 9000], "size": [200, 60], "mode": 4, "inputs": []}
    old["nodes"].append(shown | {"outputs": [{"name": "output", "type": "STRING", "links": [60]}]})
    old["links"].append([60, 60, 0, encode["id"], len(encode["inputs"]) - 1, "STRING"])
    old |= {"last_node_id": 60, "last_link_id": 60}
    new, _ = convert_graph(old)
    found = drawn(server, migrated.with_tiny_files(to_prompt(new, info)))
    assert torch.equal(found, drawn(server, text_to_image("typed first")))


def test_a_sampler_that_gave_a_picture_still_does(server, info):
    canvas, _ = convert_graph(as_canvas(old_graphs.first_day(latent=False)))
    hand = ByHand()
    samples = hand.ours(hand.encode("a red apple"), hand.encode("blurry"))
    hand.add("SaveImage", images=hand.add("VAEDecode", samples=samples, vae=hand.vae), filename_prefix="hand")
    pictures = []
    for prompt in (migrated.with_tiny_files(to_prompt(canvas, info)), hand):
        server.free()
        entry = server.run(Graph(prompt))
        (image,) = (image for saved in entry["outputs"].values() for image in saved.get("images", []))
        pictures.append(numpy.asarray(Image.open(server.base / "output" / image["subfolder"] / image["filename"])))
    assert numpy.array_equal(*pictures)


def test_prompt_syntax_of_easy_use_becomes_what_it_meant(server, info):
    """Its own nodes go on from the pipe; here a sampler takes what they would."""
    canvas, _ = convert_graph(
        as_canvas(old_graphs.easy(pipe=True, positive="a cat BREAK a dog TIMESTEP:0.5:0.8", negative="blue"))
    )
    prompt = migrated.with_tiny_files(to_prompt(canvas, info))
    (pipe,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "easy pipeIn")
    prompt = {key: node for key, node in prompt.items() if node["class_type"] in info and key not in sampled(prompt)}
    links = {"model": pipe["model"], "positive": pipe["pos"], "negative": pipe["neg"], "latent_image": pipe["latent"]}
    settings = {"seed": 3, "steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    prompt["900"] = {"class_type": "KSampler", "inputs": links | settings}
    prompt["901"] = {"class_type": "SaveLatent", "inputs": {"samples": ["900", 0], "filename_prefix": "latents/x"}}

    hand = ByHand()
    model = hand.add("KolorsModelSampling", model=hand.model, schedule="sdxl")
    first, second = hand.encode("a cat"), hand.encode("a dog")
    text = hand.add("ConditioningConcat", conditioning_to=first, conditioning_from=second)
    zeros = hand.add("ConditioningZeroOut", conditioning=text)
    late = hand.add("ConditioningSetTimestepRange", conditioning=zeros, start=0.5, end=0.8)
    early = hand.add("ConditioningSetTimestepRange", conditioning=text, start=0.0, end=0.5)
    positive = hand.add("ConditioningCombine", conditioning_1=late, conditioning_2=early)
    latent = hand.add("EmptyLatentImage", width=64, height=128, batch_size=2)
    links = {"model": model, "positive": positive, "negative": hand.encode("blue"), "latent_image": latent}
    hand.save(hand.add("KSampler", **links, **settings))
    found = drawn(server, prompt)
    assert torch.equal(found, drawn(server, hand))


def sampled(prompt: dict) -> set[str]:
    """The nodes of the plain graph that stands beside the pipe in `old_graphs.easy`."""
    return {key for key, node in prompt.items() if node["class_type"] in ("KSampler", "SaveLatent")}
