"""The pack changes nothing for other models and other nodes: an SDXL draws the same picture with and without it."""

from __future__ import annotations

import json

import numpy
import pytest
import servers
import torch
from client import UNET, VAE, Graph, KolorsGraph, PromptError, distance
from comfyui_kolors.devtools.folders import link_pack
from comfyui_kolors.devtools.neighbours.weights import random_sdxl
from safetensors.torch import save_file

pytestmark = pytest.mark.host

SDXL = "sdxl-random-unet.safetensors"


@pytest.fixture(scope="module")
def without(server, tmp_path_factory):
    """The shared server's twin without this pack, over the same files."""
    base = tmp_path_factory.mktemp("without")
    for folder in ("models", "input", "output"):
        (server.base / folder).mkdir(exist_ok=True)
        link_pack(base / folder, server.base / folder)
    file = server.base / "models" / "diffusion_models" / SDXL
    save_file(random_sdxl(), file)
    with servers.running(base, servers.OTHER_PACKS) as client:
        yield client
    file.unlink()


def draw(server) -> tuple[torch.Tensor, numpy.ndarray]:
    """Latent and pixels of the SDXL by stock nodes."""
    graph = Graph()
    model = graph.add("UNETLoader", unet_name=SDXL, weight_dtype="default")
    positive, negative = (graph.add("KolorsTestConditioning", seed=seed) for seed in (1, 2))
    links = {"model": model, "positive": positive, "negative": negative}
    links["latent_image"] = graph.add("EmptyLatentImage", width=128, height=128, batch_size=1)
    settings = {"seed": 1, "steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    samples = graph.add("KSampler", **links, **settings)
    return server.latent(graph, samples), server.image(graph, samples, graph.add("VAELoader", vae_name=VAE))


def test_sdxl_draws_the_same_picture_with_and_without_the_pack(server, without):
    (latent, image), (expected_latent, expected_image) = draw(server), draw(without)
    assert torch.equal(latent, expected_latent), distance(latent, expected_latent)
    assert numpy.array_equal(image, expected_image)
    for client in (server, without):
        assert "Requested to load SDXL" in client.read_log()


def test_every_other_node_is_as_without_the_pack(server, without):
    server.request("/object_info")  # some nodes make folders while they list files, which later lists have
    found, expected = (client.request("/object_info") for client in (server, without))
    assert len(expected) > 100
    assert [name for name in expected if found.get(name) != expected[name]] == []
    locale = json.loads((servers.ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))
    assert found.keys() - expected.keys() == locale.keys()


def test_after_the_nodes_of_minuszoneai_ours_are_as_before(server, plain):
    """That pack swaps parts of the host while it loads, and writes into the configuration of a given model."""
    if not server.request("/object_info/MZ_KolorsUNETLoaderV2"):
        pytest.skip("no ComfyUI-Kolors-MZ: name a checkout of it in KOLORS_OTHER_PACKS")
    graph = KolorsGraph()
    model = graph.add("MZ_KolorsUNETLoaderV2", unet_name=UNET)
    with pytest.raises(PromptError, match="Could not detect model type"):  # it knows the released sizes only
        server.latent(graph, graph.sample(model=model))
    graph = KolorsGraph()
    changed = server.latent(graph, graph.sample(model=graph.add("MZ_ApplySDXLSamplingSettings", model=graph.model)))
    assert distance(changed, plain) > 1e-3
    server.free()
    graph = KolorsGraph()
    assert torch.equal(server.latent(graph, graph.sample()), plain)
