"""A UNet that was distilled with guidance in graphs: our sampler, the stock ones, saving and merging."""

from __future__ import annotations

import pytest
import torch
from client import UNET, KolorsGraph, distance
from comfyui_kolors.demo import random_models
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

GUIDED = "guided-unet.safetensors"
GUIDANCE_KEY = "time_embedding.cond_proj.weight"


@pytest.fixture(scope="module", autouse=True)
def guided(server):
    """The file of a UNet with a guidance embedding, which lies in its folder."""
    file = server.base / "models" / "diffusion_models" / GUIDED
    save_file(random_models.random_unet(random_models.TINY, guidance_width=256).state_dict(), file)
    yield file
    file.unlink()


class GuidedGraph(KolorsGraph):
    def __init__(self, unet: str = GUIDED):
        super().__init__(unet=unet)

    def bridge(self, cfg: float = 5.0, negative: str = ""):
        return self.add(
            "KolorsKSampler", model=self.model, seed=1, steps=4, cfg=cfg, sampler="euler", positive=self.encode(),
            negative=self.encode(negative), latent_image=self.empty_latent(), denoise=1.0,
        )  # fmt: skip

    def guidance(self, scale: float):
        return self.add("FluxGuidance", conditioning=self.encode(), guidance=scale)


def test_the_cfg_of_our_sampler_is_the_guidance_and_the_negative_does_not_count(server):
    graph = GuidedGraph()
    latents = [server.latent(graph, graph.bridge(cfg)) for cfg in (1.0, 5.0)]
    assert distance(*latents) > 1e-3
    before = server.read_log()
    assert torch.equal(server.latent(graph, graph.bridge(5.0, "blue")), latents[1])
    assert torch.equal(server.latent(graph, graph.bridge(5.0, "green")), latents[1])
    said = server.read_log().removeprefix(before)
    assert said.count("The negative prompt has no effect") == 1


def test_the_stock_sampler_takes_it_from_the_conditioning(server):
    graph = GuidedGraph()
    default = server.latent(graph, graph.sample(cfg=1.0))
    five = server.latent(graph, graph.sample(cfg=1.0, positive=graph.guidance(5.0)))
    eight = server.latent(graph, graph.sample(cfg=1.0, positive=graph.guidance(8.5)))
    assert torch.equal(five, default)
    assert distance(eight, default) > 1e-3


def test_a_guider_of_one_prompt_gives_the_same(server):
    graph = GuidedGraph()
    samples = graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("RandomNoise", noise_seed=1),
        guider=graph.add("BasicGuider", model=graph.model, conditioning=graph.guidance(8.5)),
        sampler=graph.add("KSamplerSelect", sampler_name="euler"),
        sigmas=graph.add("BasicScheduler", model=graph.model, scheduler="normal", steps=2, denoise=1.0),
        latent_image=graph.empty_latent(),
    )
    expected = server.latent(graph, graph.sample(cfg=1.0, positive=graph.guidance(8.5)))
    assert torch.equal(server.latent(graph, samples), expected)


@pytest.mark.parametrize("loader", ["UNETLoader", "KolorsUNETLoader"])
def test_a_saved_one_loads_again(server, loader):
    graph = GuidedGraph()
    expected = server.latent(graph, graph.bridge(8.5))
    graph.add("ModelSave", model=graph.model, filename_prefix="diffusion_models/guided")
    server.run(graph)
    (file,) = (server.base / "output/diffusion_models").glob("guided_*.safetensors")
    saved = file.replace(server.base / "models/diffusion_models/saved-guided.safetensors")
    assert f"model.diffusion_model.{GUIDANCE_KEY}" in load_file(saved)
    server.free()
    again = GuidedGraph()
    again.model = again.add(loader, unet_name=saved.name, weight_dtype="default")
    assert torch.equal(server.latent(again, again.bridge(8.5)), expected)
    saved.unlink()


def test_a_merge_with_a_plain_one_keeps_the_embedding(server):
    """The stock merge passes over what the second model lacks."""
    graph = GuidedGraph()
    alone = server.latent(graph, graph.bridge(1.0))
    plain = graph.add("KolorsUNETLoader", unet_name=UNET, weight_dtype="default")
    graph.model = graph.add("ModelMergeSimple", model1=graph.model, model2=plain, ratio=0.5)
    merged = [server.latent(graph, graph.bridge(cfg)) for cfg in (1.0, 8.5)]
    assert distance(*merged) > 1e-3
    assert distance(merged[0], alone) > 1e-3
