"""Files that are replaced, damaged or taken away between two prompts, on a server that goes on running."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from client import ENCODER, KolorsGraph, Link, PromptError
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import TINY
from loras import random_pairs, written
from safetensors.torch import load_file, save

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("goes_on")]

NAME = "changed.safetensors"


def unet(seed: int) -> dict:
    return random_models.random_unet(TINY, seed=seed).state_dict()


def encoder(seed: int, server) -> dict:
    tokenizer = load_file(server.base / "models/text_encoders" / ENCODER)["spiece_model"]
    return random_models.random_chatglm3(TINY, 480, seed=seed) | {"spiece_model": tokenizer}


class ChangedGraph(KolorsGraph):
    """The plain graph with one file that the test changes: in each folder the loader that reads it."""

    def __init__(self, folder: str):
        super().__init__()
        self.positive = self.encode()
        changes = {
            "diffusion_models": self.load_unet,
            "text_encoders": self.load_encoder,
            "checkpoints": self.load_checkpoint,
            "loras": self.load_lora,
            "controlnet": self.load_control_net,
        }
        changes[folder]()

    def load_unet(self):
        self.model = self.add("KolorsUNETLoader", unet_name=NAME, weight_dtype="default")

    def load_encoder(self):
        clip = self.add("KolorsChatGLM3Loader", text_encoder_name=NAME, weight_dtype="default")
        self.positive = self.add("KolorsPromptEncode", clip=clip, text="a")

    def load_checkpoint(self):
        self.model = self.add("KolorsCheckpointLoader", ckpt_name=NAME)

    def load_lora(self):
        settings = {"strength_model": 1.0, "strength_clip": 1.0}
        self.model = self.add("KolorsLoraLoader", model=self.model, lora_name=NAME, **settings)

    def load_control_net(self):
        loaded = self.add("KolorsControlNetLoader", control_net_name=NAME)
        image = self.add("EmptyImage", width=64, height=64, batch_size=1, color=0xC08040)
        prompts = {"positive": self.positive, "negative": self.encode("")}
        settings = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        self.positive = self.add("ControlNetApplyAdvanced", control_net=loaded, image=image, **prompts, **settings)

    def draw(self, server) -> torch.Tensor:
        return server.latent(self, self.sample(self.positive, seed=3))


MAKERS: dict[str, Callable] = {
    "diffusion_models": lambda seed, server: unet(seed),
    "text_encoders": encoder,
    "checkpoints": lambda seed, server: unet(seed),
    "loras": lambda seed, server: written(
        random_pairs(random_models.random_unet(TINY), seed=seed), "unet.{}".format, ".lora_A.weight", ".lora_B.weight"
    ),
    "controlnet": lambda seed, server: random_models.random_control_net(TINY, seed=seed).state_dict(),
}


@pytest.fixture(params=MAKERS)
def folder(request) -> str:
    return request.param


@pytest.fixture
def path(server, folder) -> Iterator[Path]:
    path = server.base / "models" / folder / NAME
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def test_a_replaced_file_is_read_again(server, folder, path):
    latents = []
    for seed in (11, 12, 11):
        path.write_bytes(save(MAKERS[folder](seed, server)))
        latents.append(ChangedGraph(folder).draw(server))
    assert torch.equal(latents[0], latents[2])
    assert not torch.equal(latents[0], latents[1])


def test_a_file_replaced_within_the_clock_and_of_the_same_size_needs_another_name(server, folder, path):
    """What is known of a file is its time and size, as with the host's own loaders: this says where that ends."""
    path.write_bytes(save(MAKERS[folder](11, server)))
    before, first = path.stat(), ChangedGraph(folder).draw(server)
    path.write_bytes(save(MAKERS[folder](12, server)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert torch.equal(ChangedGraph(folder).draw(server), first)
    server.free()
    assert not torch.equal(ChangedGraph(folder).draw(server), first)


def test_a_file_overwritten_by_a_damaged_one_is_named_and_taken_again_once_mended(server, folder, path):
    content = save(MAKERS[folder](11, server))
    path.write_bytes(content)
    first = ChangedGraph(folder).draw(server)
    replacement = path.with_suffix(".partial")  # as downloads and copies do; the open file stays what it was
    replacement.write_bytes(content[:-1000])
    replacement.replace(path)
    with pytest.raises(PromptError, match="damaged") as failure:
        ChangedGraph(folder).draw(server)
    assert failure.value.kind == "KolorsError"
    assert NAME in str(failure.value)
    path.write_bytes(content)
    assert torch.equal(ChangedGraph(folder).draw(server), first)


def test_a_file_taken_away_is_named(server, folder, path):
    content = save(MAKERS[folder](11, server))
    path.write_bytes(content)
    first = ChangedGraph(folder).draw(server)
    path.unlink()
    with pytest.raises(PromptError) as failure:
        ChangedGraph(folder).draw(server)
    assert failure.value.kind in ("validation", "FileNotFoundError")
    assert NAME in str(failure.value)
    path.write_bytes(content)
    assert torch.equal(ChangedGraph(folder).draw(server), first)


def test_a_conditioning_saved_over_is_read_again_and_one_taken_away_is_named(server):
    (server.base / "input").mkdir(exist_ok=True)
    target = server.base / "input" / NAME
    latents = []
    for text in ("一只红苹果", "a boat", "一只红苹果"):
        graph = KolorsGraph()
        prompt = graph.encode(text)
        graph.add("KolorsConditioningSave", conditioning=prompt, filename_prefix="conditioning/over", precision="fp32")
        server.run(graph)
        newest = max((server.base / "output/conditioning").glob("over*"), key=lambda file: file.stat().st_mtime_ns)
        newest.replace(target)
        latents.append(draw_with(server, loaded))
    assert torch.equal(latents[0], latents[2]) and not torch.equal(latents[0], latents[1])
    target.unlink()
    with pytest.raises(PromptError) as failure:
        draw_with(server, loaded)
    assert NAME in str(failure.value)


def loaded(graph) -> Link:
    return graph.add("KolorsConditioningLoad", conditioning_name=NAME)


def draw_with(server, positive: Callable) -> torch.Tensor:
    graph = KolorsGraph()
    return server.latent(graph, graph.sample(positive(graph), seed=3))


def test_a_checkpoint_with_a_damaged_vae_is_named(server):
    """The host's own error spoke of TAESD and of no file."""
    path = server.base / "models/checkpoints" / NAME
    vae = {f"first_stage_model.{key}": tensor for key, tensor in random_models.random_vae().items()}
    key = "first_stage_model.taesd_decoder.1.weight"
    vae[key] = vae[key][:, :3].contiguous()
    from comfyui_kolors.kolors_core.files.weights import read_state_dict

    graph = KolorsGraph()
    graph.add("ModelSave", model=graph.model, filename_prefix="checkpoints/for-vae")
    server.run(graph)
    (saved,) = (server.base / "output/checkpoints").glob("for-vae*")
    path.write_bytes(save(read_state_dict(saved)[0] | vae))
    with pytest.raises(PromptError, match="has a damaged VAE") as failure:
        ChangedGraph("checkpoints").draw(server)
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KolorsCheckpointLoader")
    assert NAME in str(failure.value)
    path.unlink()
