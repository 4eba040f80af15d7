"""IP-Adapters in graphs: what they change, beside the host's own nodes. What is exact is proved in tests/host."""

from __future__ import annotations

import pytest
import torch
from adapters import ROUNDING, PictureGraph, draw, plus, with_adapter
from client import Link, distance
from image_prompts import nested

pytestmark = pytest.mark.host


# ---- what it changes ------------------------------------------------------------------------------------------------


def test_a_picture_changes_the_image_and_a_seed_repeats_it(server, plain, styled):
    assert distance(styled, plain) > 0.01
    images = []
    for change in (lambda graph: graph.model, PictureGraph.apply):
        server.free()
        graph = PictureGraph()
        samples = graph.sample(model=change(graph))
        images.append(server.image(graph, samples))
        assert torch.equal(server.latent(graph, samples), plain if len(images) == 1 else styled)
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": 0.4},
        {"image": lambda graph: graph.picture("boat")},
        {"image_negative": lambda graph: graph.picture("cloud")},
    ],
    ids=["weight", "image", "image_negative"],
)
def test_another_setting_gives_another_image(server, plain, styled, changes):
    latent = draw(server, with_adapter(**changes))
    assert distance(latent, styled) > 0.001
    assert distance(latent, plain) > 0.001


def test_every_weight_type_gives_a_latent_of_its_own(server, plain, styled):
    info = server.request("/object_info/KolorsIPAdapterApply")["KolorsIPAdapterApply"]
    types = info["input"]["optional"]["weight_type"][0]
    latents = {kind: draw(server, with_adapter(weight_type=kind)) for kind in types}
    assert torch.equal(latents["linear"], styled)
    assert len({latent.numpy().tobytes() for latent in [*latents.values(), plain]}) == len(types) + 1 == 8


def test_a_range_leaves_the_steps_outside_of_it_alone(server):
    """The two halves of a run, by a model whose adapter counts in the other half only."""
    graph = PictureGraph()

    def half(model, latent, **changes):
        inputs = {"noise_seed": 1, "steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"}
        inputs |= {"model": model, "positive": graph.encode(), "negative": graph.encode(""), "latent_image": latent}
        inputs |= {"start_at_step": 0, "end_at_step": 4, "add_noise": "disable", "return_with_leftover_noise": "enable"}
        return graph.add("KSamplerAdvanced", **inputs | changes)

    empty, first = graph.empty_latent(), {"add_noise": "enable", "end_at_step": 2}
    late, early = graph.apply(start_at=0.5), graph.apply(end_at=0.5)
    begun = half(graph.model, empty, **first)
    samples = [begun, half(late, empty, **first), half(early, empty, **first)]
    samples += [half(model, begun, start_at_step=2) for model in (graph.model, early, late)]
    nodes = [server.save_latent(graph, latent) for latent in samples]
    entry = server.run(graph)
    latents = [server.read_latent(entry, node) for node in nodes]
    for plain, outside, inside in (latents[:3], latents[3:]):
        assert torch.equal(outside, plain)
        assert not torch.equal(inside, plain)


def test_pictures_of_a_batch_are_combined_or_each_has_a_latent(server, styled):
    def combined(*names: str, **changes):
        def images(graph):
            return graph.add("ImageBatch", image1=graph.picture(names[0]), image2=graph.picture(names[1]))

        return draw(server, with_adapter(image=images, **changes))

    both = combined("apple", "boat")
    alone = draw(server, with_adapter(image=lambda graph: graph.picture("boat")))
    assert distance(both, styled) > 0.001
    assert distance(both, alone) > 0.001
    assert distance(combined("boat", "apple"), both) <= ROUNDING
    assert distance(combined("apple", "apple"), styled) <= ROUNDING
    one_each = combined("apple", "boat", image_batch="one per latent")  # of which there is one
    assert distance(one_each, styled) <= ROUNDING


def half_mask(graph, side: str) -> Link:
    """White on one side of the picture, of another resolution than the latent."""
    size = {"left": (50, 90), "right": (50, 90), "top": (100, 45), "bottom": (100, 45)}[side]
    black, white = graph.mask(0.0, 100, 90), graph.mask(1.0, *size)
    mask = graph.add("MaskComposite", destination=black, source=white, x=0, y=0, operation="add")
    return mask if side in ("left", "top") else graph.add("InvertMask", mask=mask)


def test_two_masks_that_make_up_the_picture_are_as_none(server, styled):
    def both(graph):
        for side in ("left", "right"):
            graph.model = graph.apply(attn_mask=half_mask(graph, side))
        return graph.model

    assert distance(draw(server, both), styled) <= ROUNDING


@pytest.mark.parametrize(("side", "other"), [("left", "right"), ("top", "bottom")])
def test_a_mask_tells_where_it_counts(server, side, other):
    """In one step the change goes round the whole picture already, but there is more of it where it began.

    In 256 pixels 1.85 times as much, in 128 hardly more.
    """
    graph = PictureGraph()
    models = [graph.model, *(graph.apply(attn_mask=half_mask(graph, name)) for name in (side, other))]
    latent = graph.empty_latent(256, 256)
    nodes = [server.save_latent(graph, graph.sample(model=model, latent=latent, steps=1)) for model in models]
    entry = server.run(graph)
    plain, *masked = (server.read_latent(entry, node) for node in nodes)
    changes = [(latent - plain if side == "left" else (latent - plain).mT) for latent in masked]
    halves = [change.tensor_split(2, dim=-1) for change in changes]
    first, second = (one.norm() / two.norm() for one, two in halves)
    assert first > 1.5 * second


@pytest.mark.parametrize("layout", ["ip_adapter", "adapter_modules"])
def test_both_bin_layouts_load_like_safetensors(server, put, styled, layout):
    parts = nested(plus())
    path = put("ipadapter", f"{layout}.bin", {"image_proj": parts["image_proj"], layout: parts["ip_adapter"]})
    assert torch.equal(draw(server, lambda graph: graph.apply(path.name)), styled)


# ---- beside other nodes ---------------------------------------------------------------------------------------------


def test_an_area_as_large_as_the_picture_changes_nothing(server, styled):
    graph = PictureGraph()
    area = graph.add("ConditioningSetArea", conditioning=graph.encode(), width=64, height=64, x=0, y=0, strength=1.0)
    latent = server.latent(graph, graph.sample(model=graph.apply(), positive=area))
    assert distance(latent, styled) <= ROUNDING


def test_areas_and_combined_prompts(server):
    """Several conditions of other sizes in one step, with and without the adapter, which each of them must see."""

    def latent(adapted: bool):
        graph = PictureGraph()
        left, right = (
            graph.add("ConditioningSetArea", conditioning=graph.encode(text), width=96, height=64, x=x, y=0, strength=1)
            for text, x in (("a red apple", 0), ("一只蓝鸟", 64))
        )
        positive = graph.add("ConditioningCombine", conditioning_1=left, conditioning_2=right)
        positive = graph.add("ConditioningCombine", conditioning_1=positive, conditioning_2=graph.encode())
        return server.latent(
            graph,
            graph.sample(
                model=graph.apply() if adapted else graph.model,
                positive=positive,
                latent=graph.empty_latent(160, 64, batch_size=2),
            ),
        )

    change = (latent(True) - latent(False)).norm(dim=(1, 2))  # (batch, columns)
    assert (change > 0.001).all()


def test_a_second_pass_at_a_larger_size(server):
    """Of an odd number of cells, with a mask, on the model that has made the first pass."""

    def passes(adapted: bool):
        graph = PictureGraph()
        if adapted:
            graph.model = graph.apply(attn_mask=graph.mask(0.5, 50, 70))
        larger = graph.add(
            "LatentUpscale",
            samples=graph.sample(),
            upscale_method="nearest-exact",
            width=104,
            height=136,
            crop="disabled",
        )
        return server.latent(graph, graph.sample(latent=larger, denoise=0.5))

    first, second = passes(False), passes(True)
    assert second.shape == (1, 4, 17, 13)
    assert distance(second, first) > 0.001


def kolors_ksampler(graph):
    return graph.add(
        "KolorsKSampler",
        model=graph.model, seed=1, steps=2, cfg=5.0, sampler="euler", positive=graph.encode(),
        negative=graph.encode(""), latent_image=graph.empty_latent(), denoise=1.0,
    )  # fmt: skip


def inpaint(graph):
    mask = graph.add("MaskComposite", destination=graph.mask(1.0), source=graph.mask(0.0, 32, 64), x=0, y=0,
                     operation="multiply")  # fmt: skip
    return graph.sample(latent=graph.add("SetLatentNoiseMask", samples=graph.empty_latent(), mask=mask))


@pytest.mark.parametrize("sample", [kolors_ksampler, inpaint])
def test_other_ways_to_sample_see_the_picture(server, sample):
    latents = []
    for adapted in (False, True):
        graph = PictureGraph()
        if adapted:
            graph.model = graph.apply()
        latents.append(server.latent(graph, sample(graph)))
    assert distance(latents[1][..., 4:], latents[0][..., 4:]) > 0.001
    if sample is inpaint:
        assert torch.allclose(latents[1][..., :4], torch.zeros(1, 4, 8, 4), atol=1e-4)


PATCHES = {
    "PerturbedAttentionGuidance": {"scale": 3.0},
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "RescaleCFG": {"multiplier": 0.7},
    "SelfAttentionGuidance": {"scale": 0.8, "blur_sigma": 2.0},
}


@pytest.mark.parametrize("node", PATCHES)
def test_stock_patches_and_an_adapter_in_either_order(server, plain, styled, node):
    def patch(graph, model):
        return graph.add(node, model=model, **PATCHES[node])

    before = draw(server, lambda graph: graph.apply(model=patch(graph, graph.model)))
    after = draw(server, lambda graph: patch(graph, graph.apply()))
    assert torch.equal(before, after)
    assert distance(before, styled) > 1e-5  # random weights give guidance little to rescale
    assert distance(before, draw(server, lambda graph: patch(graph, graph.model))) > 0.001
