"""The stock workflow: every sampler, size and batch, and the same result for the same input."""

from __future__ import annotations

import numpy
import pytest
import torch
from client import KolorsGraph, distance, messages

pytestmark = pytest.mark.host

SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "uni_pc", "lcm")
SCHEDULERS = ("normal", "karras", "sgm_uniform")


@pytest.fixture(scope="module")
def seen():
    """Latents of the samplers that ran before."""
    return {}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_stock_sampler_gives_a_latent_of_its_own(server, seen, sampler, scheduler):
    graph = KolorsGraph()
    latent = server.latent(graph, graph.sample(sampler_name=sampler, scheduler=scheduler, steps=4))
    assert latent.shape == (1, 4, 8, 8)
    assert [name for name, other in seen.items() if torch.equal(latent, other)] == []
    seen[sampler, scheduler] = latent


@pytest.mark.parametrize(("width", "height"), [(128, 64), (64, 128), (104, 72)])
def test_image_has_the_size_of_the_latent(server, width, height):
    graph = KolorsGraph()
    image = server.image(graph, graph.sample(latent=graph.empty_latent(width, height)))
    assert image.shape == (1, height, width, 3)


def test_batch_of_four_differs_and_starts_with_the_single_image(server, plain):
    graph = KolorsGraph()
    batch = server.latent(graph, graph.sample(latent=graph.empty_latent(batch_size=4)))
    assert len(batch) == 4
    # Not bit-equal: matrix products of another size round differently.
    assert distance(batch[:1], plain) < 1e-5
    assert all(distance(other, plain[0]) > 0.1 for other in batch[1:])


def test_batch_of_four_gives_four_images(server):
    graph = KolorsGraph()
    images = server.image(graph, graph.sample(latent=graph.empty_latent(batch_size=4)))
    assert images.shape == (4, 64, 64, 3)
    assert len(numpy.unique(images, axis=0)) == 4


@pytest.mark.parametrize(("seed", "equal"), [(1, True), (2, False)])
def test_only_the_same_seed_repeats_bit_for_bit(server, plain, seed, equal):
    server.free()
    graph = KolorsGraph()
    node = server.save_latent(graph, graph.sample(seed=seed))
    entry = server.run(graph)
    assert messages(entry)["execution_cached"]["nodes"] == [], "nothing was computed anew"
    assert torch.equal(server.read_latent(entry, node), plain) is equal


def test_image_to_image_starts_from_the_given_latent(server, plain):
    graph = KolorsGraph()
    start = graph.sample()
    redrawn = server.latent(graph, graph.sample(latent=start, seed=2, denoise=0.3))
    # A part of the noise of a whole run is added: nearer to the start than a run with that seed is.
    graph = KolorsGraph()
    afresh = server.latent(graph, graph.sample(seed=2))
    assert 0 < distance(redrawn, plain) < distance(afresh, plain)


def test_two_prompts_queued_at_once_both_finish(server):
    prompts = []
    for seed in (11, 12):
        graph = KolorsGraph()
        node = server.save_latent(graph, graph.sample(seed=seed))
        prompts.append((server.queue(graph), node))
    first, second = (server.read_latent(server.wait(prompt_id), node) for prompt_id, node in prompts)
    assert not torch.equal(first, second)
