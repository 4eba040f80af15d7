"""Prompts that are interrupted, freed, unloaded or taken back at any stage: the next one gives the same bytes."""

from __future__ import annotations

import itertools
import time

import numpy
import pytest
import torch
from client import ENCODER, UNET, KolorsGraph, PromptError, messages
from comfyui_kolors.demo import random_models
from safetensors.torch import load_file, save_file

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("goes_on")]

MANY_STEPS = 300
SERIAL = itertools.count()


class StagedGraph(KolorsGraph):
    """The plain graph to the saved picture, with something that happens at one stage of it."""

    def __init__(self, node: str = "", stage: str = "", **settings):
        super().__init__()
        self.stage, self.node, self.settings = stage, node, settings
        model, clip, vae = self.at("model", self.model), self.at("clip", self.clip), self.at("vae", self.vae)
        positive = self.at("conditioning", self.add("KolorsPromptEncode", clip=clip, text="一只红苹果, a red apple"))
        negative = self.add("CLIPTextEncode", clip=clip, text="")
        self.samples = self.at("latent", self.sample(positive, negative, model=model, steps=4))
        images = self.at("image", self.add("VAEDecode", samples=self.samples, vae=vae))
        name = f"staged-{next(SERIAL)}"  # one that was saved before is not saved again
        self.saved = self.add("SaveImage", images=images, filename_prefix=name)

    def at(self, stage: str, value):
        return self.add(self.node, value=value, **self.settings) if stage == self.stage else value


def read_image(server, entry, node) -> numpy.ndarray:
    from PIL import Image

    (file,) = server.saved_files(entry, node, "images")
    return numpy.asarray(Image.open(file))


@pytest.fixture(scope="module")
def image(server) -> numpy.ndarray:
    graph = StagedGraph()
    return read_image(server, server.run(graph), graph.saved)


# ---- /interrupt -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "ends_at"),
    [
        ("clip", ("KolorsPromptEncode", "CLIPTextEncode", "KSampler")),  # of a prompt that short, the next node
        ("model", ("KSampler",)),
        ("vae", ("VAEDecode", "SaveImage")),
    ],
    ids=["encode", "sample", "decode"],
)
def test_an_interrupt_ends_the_prompt_at_any_stage(server, image, stage, ends_at):
    server.free()
    entry = server.run(StagedGraph("KolorsTestPostDuring", stage, path="/interrupt"))
    assert messages(entry)["execution_interrupted"]["node_type"] in ends_at
    assert not entry["outputs"]
    graph = StagedGraph()
    assert numpy.array_equal(read_image(server, server.run(graph), graph.saved), image)


@pytest.fixture(scope="module")
def large_encoder(server) -> str:
    """One that takes a second or more to be packed."""
    sizes = random_models.Sizes(hidden=512, head_dim=64, layers=24, ffn=1536)
    tokenizer = {"spiece_model": load_file(server.base / "models/text_encoders" / ENCODER)["spiece_model"]}
    path = server.base / "models/text_encoders/large.safetensors"
    save_file(random_models.random_chatglm3(sizes, 480) | tokenizer, path)
    yield path.name
    path.unlink()


def test_an_interrupt_ends_the_loading_of_an_encoder(server, large_encoder):
    graph = KolorsGraph()
    clip = graph.add("KolorsChatGLM3Loader", text_encoder_name=large_encoder, weight_dtype="int4")
    prompt = graph.add("KolorsPromptEncode", clip=clip, text="a")
    graph.add("KolorsConditioningSave", conditioning=prompt, filename_prefix="conditioning/never", precision="fp32")
    for _ in range(3):  # on a busy machine the request may come when all is over
        prompt_id = server.queue(graph)
        wait_until_running(server, prompt_id)
        server.request("/interrupt", {"prompt_id": prompt_id})
        found = messages(server.wait(prompt_id))
        if "execution_interrupted" in found:
            break
        server.free()
    assert found["execution_interrupted"]["node_type"] == "KolorsChatGLM3Loader"
    server.run(graph)  # and loads the next time
    assert list((server.base / "output/conditioning").glob("never*"))


def wait_until_running(server, prompt_id: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if prompt_id in [entry[1] for entry in server.request("/queue")["queue_running"]]:
            return
        time.sleep(0.01)
    raise TimeoutError(f"prompt {prompt_id} did not begin")


# ---- /free and unloading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["clip", "model", "vae"])
def test_a_free_in_the_middle_of_a_prompt_changes_nothing(server, image, stage):
    server.free()
    for graph in (StagedGraph("KolorsTestPostDuring", stage, path="/free"), StagedGraph()):
        assert numpy.array_equal(read_image(server, server.run(graph), graph.saved), image)


@pytest.mark.parametrize("body", [{"unload_models": True}, {"free_memory": True}], ids=str)
def test_a_free_between_prompts_changes_nothing(server, image, body):
    for _ in range(3):
        server.request("/free", body)
        graph = StagedGraph()
        assert numpy.array_equal(read_image(server, server.run(graph), graph.saved), image)


@pytest.mark.parametrize("stage", ["model", "clip", "vae", "conditioning", "latent", "image"])
def test_models_unloaded_between_two_nodes_are_loaded_again(server, image, stage):
    server.free()
    graph = StagedGraph("KolorsTestUnload", stage)
    assert numpy.array_equal(read_image(server, server.run(graph), graph.saved), image)


# ---- the queue ------------------------------------------------------------------------------------------------------


def slow_graph(seed: int) -> tuple[KolorsGraph, object]:
    graph = KolorsGraph()
    slow = graph.add("KolorsTestSleep", value=graph.model, seconds=1.0 + seed / 1000)
    samples = graph.sample(model=slow, seed=seed)
    return graph, graph.add("SaveLatent", samples=samples, filename_prefix="latents/slow")


@pytest.mark.parametrize("clear", [False, True], ids=["deleted", "cleared"])
def test_a_prompt_taken_out_of_the_queue_never_runs(server, plain, clear):
    first, saved = slow_graph(1)
    running = server.queue(first)
    wait_until_running(server, running)
    waiting = [server.queue(slow_graph(seed)[0]) for seed in (2, 3)]
    server.request("/queue", {"clear": True} if clear else {"delete": [waiting[0]]})
    last = KolorsGraph()
    samples = server.save_latent(last, last.sample(seed=4))
    entry = server.wait(server.queue(last))
    assert torch.equal(server.read_latent(server.wait(running), saved), plain)
    assert server.read_latent(entry, samples).shape == plain.shape
    history = server.request("/history")
    assert (waiting[0] in history, waiting[1] in history) == (False, not clear)


def test_a_running_prompt_taken_back_ends_at_its_next_step(server):
    graph = KolorsGraph()
    graph.add("PreviewAny", source=graph.sample(steps=MANY_STEPS))
    prompt_id = server.queue(graph)
    wait_until_running(server, prompt_id)
    server.request("/interrupt", {"prompt_id": prompt_id})
    assert "execution_interrupted" in messages(server.wait(prompt_id))


# ---- several models -------------------------------------------------------------------------------------------------


def test_two_kolors_models_in_turn_give_what_each_gives_alone(server, plain):
    models = server.base / "models"
    save_file(random_models.random_unet(random_models.TINY, seed=7).state_dict(), models / "diffusion_models/turn.sft")
    tokenizer = {"spiece_model": load_file(models / "text_encoders" / ENCODER)["spiece_model"]}
    encoder = random_models.random_chatglm3(random_models.TINY, 480, seed=7)
    save_file(encoder | tokenizer, models / "text_encoders/turn.sft")
    alone = {}
    for turn in range(3):
        for unet in (UNET, "turn.sft"):
            for encoder in (ENCODER, "turn.sft"):
                graph = KolorsGraph(unet, encoder)
                if turn == 0:
                    server.free()
                latent = server.latent(graph, graph.sample(seed=1))
                assert torch.equal(alone.setdefault((unet, encoder), latent), latent)
    assert torch.equal(alone[UNET, ENCODER], plain)
    assert len({tuple(latent.flatten().tolist()) for latent in alone.values()}) == 4


def test_a_failed_prompt_leaves_no_model_half_patched(server, plain):
    """The sampler fails while another noise schedule is on the model; the plain one knows nothing of it."""
    graph = KolorsGraph()
    patched = graph.add("KolorsModelSampling", model=graph.model, schedule="sdxl")
    wrong = graph.add("KolorsTestWidths", width=2048, pooled_width=1280)
    with pytest.raises(PromptError):
        server.latent(graph, graph.sample(wrong, model=patched))
    again = KolorsGraph()
    assert torch.equal(server.latent(again, again.sample()), plain)
