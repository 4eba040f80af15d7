"""The tries of other packs' nodes on a real ComfyUI, with a pack of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import servers
from client import ENCODER, UNET, VAE
from comfyui_kolors.demo import random_models
from comfyui_kolors.devtools.neighbours.scene import Family
from comfyui_kolors.devtools.neighbours.trial import Bench
from comfyui_kolors.devtools.neighbours.tries.recipe import DRAWS, KEEPS, given, node, of, sampled

pytestmark = pytest.mark.host

PACK = """
import torch


class Base:
    CATEGORY, FUNCTION, RETURN_TYPES = "neighbour", "run", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "factor": ("FLOAT", {"default": 0.5})}}


class NeighbourScale(Base):
    def run(self, model, factor):
        model = model.clone()
        model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * factor)
        return (model,)


class NeighbourBreaks(Base):
    def run(self, model, factor):
        raise ValueError("no such layer")


class NeighbourNothing(Base):
    def run(self, model, factor):
        return (model,)


class NeighbourBlack(Base):
    RETURN_TYPES = ("IMAGE",)

    def run(self, model, factor):
        return (torch.zeros(1, 8, 8, 3),)


class NeighbourTokens:
    CATEGORY, FUNCTION, RETURN_TYPES = "neighbour", "run", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",), "text": ("STRING", {"multiline": True})}}

    def run(self, clip, text):
        return clip.tokenize(text)["l"]


NODES = (NeighbourScale, NeighbourBreaks, NeighbourNothing, NeighbourBlack, NeighbourTokens)
NODE_CLASS_MAPPINGS = {node.__name__: node for node in NODES}
"""

FAMILY = Family(
    "Kolors",
    ("KolorsUNETLoader", {"unet_name": UNET}, 0),
    ("KolorsChatGLM3Loader", {"text_encoder_name": ENCODER}, 0),
    ("VAELoader", {"vae_name": VAE}, 0),
    ("KolorsControlNetLoader", {}, 0),
    {},
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    base = tmp_path_factory.mktemp("neighbours")
    random_models.write(base / "models")
    pack = base / "packs" / "neighbour"
    pack.mkdir(parents=True)
    (pack / "__init__.py").write_text(PACK, encoding="utf-8")
    with servers.running(base, [servers.ROOT, pack]) as client:
        running = SimpleNamespace(url=client.url, log=client.log, process=SimpleNamespace(poll=lambda: None))
        yield Bench(running, base, [FAMILY])


def test_the_plain_picture_is_drawn_as_latent_and_as_image(bench):
    latent, image = (bench.plain["Kolors"][kind] for kind in ("LATENT", "IMAGE"))
    assert latent.digest and image.digest and latent.digest != image.digest


@pytest.mark.parametrize(("one", "outcome", "why"), [
    (node("NeighbourScale"), "works", "not drawn"),
    (node("NeighbourScale", KEEPS, factor=1.0), "works", "not drawn"),
    (node("NeighbourScale", model=of("NeighbourNothing", model=given("MODEL"))), "works", "not drawn"),
    (node("NeighbourNothing"), "failed", "it has no effect"),
    (node("NeighbourScale", KEEPS), "failed", "it changes the image"),
    (node("NeighbourBreaks"), "failed", "ValueError: no such layer"),
    (node("NeighbourBreaks", refusal="no such"), "refused", "ValueError: no such layer"),
    (node("NeighbourTokens"), "refused", 'asks for tokens of a text encoder "l"'),
    (node("NeighbourBlack", DRAWS), "failed", "an image of one colour"),
    (node("VAEDecode", DRAWS, samples=sampled()), "works", "not drawn"),
    (node("NeighbourGone"), "failed", "there is no node NeighbourGone here"),
    (node("NeighbourScale", factor="x"), "failed", "Failed to convert an input value"),
])  # fmt: skip
def test_what_comes_of_a_try(bench, one, outcome, why):
    verdict = bench.judge(one, FAMILY, None)
    assert verdict.outcome == outcome and why in verdict.why
