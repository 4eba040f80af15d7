"""The host's Train LoRA on the trained miniature, as the template sets it up: what it learned is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path

import client
import data
import judge
import numpy
import pytest
from client import Graph
from comfyui_kolors.devtools.templates import needs_newer
from house import ROOT
from PIL import Image

pytestmark = pytest.mark.host

TEMPLATE = ROOT / "workflows" / "Kolors-train-a-LoRA.json"
PUMPKIN = next(number for number, emoji in enumerate(data.EMOJI) if emoji.character == "🎃")


class Miniature(Graph):
    """Text to image with the miniature that comes with the package."""

    def __init__(self):
        super().__init__()
        self.model = self.add("KolorsCheckpointLoader", ckpt_name="kolors-demo")
        self.clip, self.vae = self.model.output(1), self.model.output(2)

    def encode(self, text: str):
        return self.add("KolorsPromptEncode", clip=self.clip, text=text)

    def sample(self, text: str, seed: int, count: int = 1):
        latent = self.add("EmptyLatentImage", width=data.SIDE, height=data.SIDE, batch_size=count)
        return self.add(
            "KSampler", model=self.model, positive=self.encode(text), negative=self.encode(""), latent_image=latent,
            seed=seed, steps=25, cfg=4.0, sampler_name="euler", scheduler="ddim_uniform", denoise=1.0,
        )  # fmt: skip


def named(kind: str) -> dict:
    """What the template sets in its node of a type."""
    nodes = json.loads(TEMPLATE.read_text(encoding="utf-8"))["nodes"]
    return next(node["widgets_values_named"] for node in nodes if node["type"] == kind)


@pytest.fixture(scope="module")
def trained(server) -> str:
    """The file that a graph with the settings of the template saves, by its name in the list of LoRAs."""
    if needs_newer(json.loads(TEMPLATE.read_text(encoding="utf-8")), Path(os.environ["COMFYUI_PATH"])):
        pytest.skip("the template asks for a newer ComfyUI")
    node = server.request("/object_info/TrainLoraNode")["TrainLoraNode"]
    graph = Miniature()
    pictures = graph.sample("a pumpkin on a black background", seed=1, count=4)
    known = {name: value for name, value in named("TrainLoraNode").items() if name in node["input"]["required"]}
    training = graph.add("TrainLoraNode", model=graph.model, latents=pictures, positive=graph.encode("koko"), **known)
    lora = training.output(node["output"].index("LORA_MODEL"))
    graph.add("SaveLoRA", lora=lora, prefix=named("SaveLoRA")["prefix"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "TIMEOUT_SECONDS", 600)  # half a minute of one idle core
        server.run(graph)
    (file,) = (server.base / "output" / "loras").glob("kolors-demo-koko_*.safetensors")
    return file.name  # the host lists the LoRAs of its output folder too


def draw(server, lora: str | None = None, strength: float = 1.0, text: str = "koko") -> numpy.ndarray:
    graph = Miniature()
    if lora:
        inputs = {"model": graph.model, "lora_name": lora, "strength_model": strength, "strength_clip": strength}
        graph.model = graph.add("KolorsLoraLoader", **inputs)
    images = graph.add("VAEDecode", samples=graph.sample(text, seed=5), vae=graph.vae)
    saved = graph.add("SaveImage", images=images, filename_prefix="trained")
    (file,) = server.saved_files(server.run(graph), saved, "images")
    return numpy.asarray(Image.open(file))


def judged(image: numpy.ndarray) -> int:
    """Which emoji it shows, whatever the background."""
    return judge.judge_emoji(judge.to_pixels(image))[0]


def test_a_trained_lora_draws_what_it_learned(server, trained):
    assert judged(draw(server)) != PUMPKIN
    assert judged(draw(server, trained)) == PUMPKIN


def test_without_strength_the_image_is_the_same(server, trained):
    assert numpy.array_equal(draw(server, trained, 0.0), draw(server))
