"""Graphs that are cut, and the actor that keeps what was encoded."""

from __future__ import annotations

import asyncio
import copy

from comfyui_kolors.kolors_core.render.prompts import Prompts
from comfyui_kolors.kolors_core.render.stages import CONDITIONING, LATENT, hash_output

NODES = {
    "CheckpointLoaderSimple": {"output": ["MODEL", "CLIP", "VAE"]},
    "CLIPTextEncode": {"output": ["CONDITIONING"]},
    "ConditioningCombine": {"output": ["CONDITIONING"]},
    "EmptyLatentImage": {"output": ["LATENT"]},
    "KSampler": {"output": ["LATENT"]},
    "VAEDecode": {"output": ["IMAGE"]},
    "VAEEncode": {"output": ["LATENT"]},
    "SaveImage": {"output": [], "output_node": True},
}


def test_prompts_are_cut_off_behind_the_text_encoder(graph):
    graph["8"] = {
        "class_type": "ConditioningCombine",
        "inputs": {"conditioning_1": ["2", 0], "conditioning_2": ["3", 0]},
    }
    graph["5"]["inputs"]["positive"] = ["8", 0]
    before = copy.deepcopy(graph)
    assert CONDITIONING.find(graph, NODES) == ["2:0", "3:0"]
    part = CONDITIONING.before(graph, ["2:0"])
    assert set(part) == {"1", "2", "save-0"} and part["save-0"]["inputs"]["conditioning"] == ["2", 0]
    rest = CONDITIONING.behind(graph, {"2:0": "kolors-render/a.safetensors", "3:0": "kolors-render/b.safetensors"})
    loaded = rest["8"]["inputs"]["conditioning_1"][0]
    assert rest[loaded]["inputs"] == {"conditioning_name": "kolors-render/a.safetensors [output]"}
    assert rest["5"]["inputs"]["negative"][0] != loaded
    assert graph == before


def test_latents_are_cut_off_before_they_are_decoded(graph):
    assert LATENT.find(graph, NODES) == ["5:0"]
    assert set(LATENT.before(graph, ["5:0"])) == {"1", "2", "3", "4", "5", "save-0"}
    rest = LATENT.behind(graph, {"5:0": "kolors-render/a.latent"})
    assert rest[rest["6"]["inputs"]["samples"][0]]["inputs"] == {"latent": "kolors-render/a.latent [output]"}


def test_an_image_that_is_sampled_again_is_decoded_where_it_is_sampled(graph):
    graph["8"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["6", 0], "vae": ["1", 2]}}
    graph["9"] = {"class_type": "KSampler", "inputs": {**graph["5"]["inputs"], "latent_image": ["8", 0]}}
    graph["10"] = {"class_type": "VAEDecode", "inputs": {"samples": ["9", 0], "vae": ["1", 2]}}
    graph["7"]["inputs"]["images"] = ["10", 0]
    assert LATENT.find(graph, NODES) == ["9:0"]
    graph["11"] = {"class_type": "SaveLatent", "inputs": {"samples": ["9", 0], "filename_prefix": "x"}}
    assert LATENT.find(graph, {**NODES, "SaveLatent": {"output": [], "output_node": True}}) == ["9:0"]
    graph["11"]["inputs"]["samples"] = ["5", 0]
    graph["12"] = {"class_type": "ModelSave", "inputs": {"model": ["1", 0], "filename_prefix": "x"}}
    assert LATENT.find(graph, {**NODES, "ModelSave": {"output": [], "output_node": True}}) == []


def test_equal_prompts_have_the_same_key_whatever_their_nodes_are_called(graph):
    other = {**copy.deepcopy(graph), "30": copy.deepcopy(graph["2"])}
    assert hash_output("2:0", graph) == hash_output("30:0", other) != hash_output("3:0", graph)
    other["1"]["inputs"]["ckpt_name"] = "other.safetensors"
    assert hash_output("2:0", graph) != hash_output("2:0", other)


def test_one_encodes_and_the_others_wait():
    async def work() -> list:
        prompts = Prompts()
        assert await prompts.take("a") is None
        others = [asyncio.create_task(prompts.take("a")) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in others)
        await prompts.give("a", b"states")
        return await asyncio.gather(*others)

    assert asyncio.run(work()) == [b"states"] * 3


def test_another_one_encodes_where_the_first_failed_or_died():
    async def work() -> None:
        prompts = Prompts(lease=0.05)
        assert await prompts.take("a") is None
        assert await prompts.take("a") is None, "the lease of the first one has run out"
        waiting = asyncio.create_task(prompts.take("a"))
        await asyncio.sleep(0.01)
        await prompts.give("a", None)
        assert await waiting is None

    asyncio.run(work())


def test_the_oldest_prompts_are_forgotten():
    async def work() -> list:
        prompts = Prompts(kept_bytes=10)
        for key in "abc":
            await prompts.take(key)
            await prompts.give(key, bytes(4))
        return sorted(prompts.contents)

    assert asyncio.run(work()) == ["b", "c"]
