"""What is added to a step, on both sides: IP-Adapters, ControlNets, and LoRAs.

Each function gives runs of guided sampling, by side and number of what is added: `Runs["ours"][2]()`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import torch
from _sides import Sides, random_models, random_prompts, sample, sample_reference
from comfy.model_patcher import ModelPatcher
from comfyui_kolors.kolors_core.host import control_net, lora
from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
from comfyui_kolors.kolors_core.host.ip_adapter import image_prompt
from comfyui_kolors.kolors_core.networks.vision import to_pil
from control_nets import Control, ControlledUNet
from image_prompts import TOWER, host_tower, picture, reference_pipeline
from loras import random_pairs, written
from reference import build_pipeline, build_scheduler
from safetensors.torch import save_file

WEIGHT = 0.5
Runs = dict[str, list[Callable[[], torch.Tensor]]]


@dataclass(frozen=True)
class Work:
    """How much one run is: the side in cells, and steps."""

    cells: int
    steps: int


@dataclass(frozen=True)
class Conditioned:
    """Prompts that carry a ControlNet, in the place of `_sides.Prompts`."""

    conditioning: list


def ip_adapters(sides: Sides, most: int, work: Work) -> Runs:
    """None to `most` IP-Adapters of an image each, encoded beforehand."""
    weights = [random_models.random_ip_adapter(sides.sizes, TOWER["hidden_size"], seed=seed) for seed in range(most)]
    prompts, image, tower = random_prompts(sides.sizes.hidden), picture(), host_tower(sides.folder)
    models, pipes = [sides.model], [(sides.pipe, {})]
    for index, state_dict in enumerate(weights):
        path = sides.folder / f"adapter{index}.safetensors"
        save_file(state_dict, path)
        adapter = ip_adapter.load_ip_adapter(path)
        tokens = ip_adapter.image_tokens(adapter, image_prompt.encode(tower, image))
        models.append(ip_adapter.apply(models[-1], adapter, tokens, ip_adapter.Influence(WEIGHT, 0.0, 1.0)))
        pipe = reference_pipeline(sides.pipe.unet, weights[: index + 1])
        pipe.set_ip_adapter_scale([WEIGHT] * (index + 1))
        embeds = pipe.prepare_ip_adapter_image_embeds([[to_pil(image[0])]] * (index + 1), None, "cpu", 1, True)
        pipes.append((pipe, {"ip_adapter_image_embeds": embeds}))
    return {
        "diffusers": [
            partial(sample_reference, pipe, prompts, work.cells, work.steps, **options) for pipe, options in pipes
        ],
        "ours": [partial(sample, model, prompts, work.cells, work.steps) for model in models],
    }


def control_nets(sides: Sides, most: int, work: Work) -> Runs:
    """None to `most` ControlNets of an image of the size that is drawn."""
    networks = [random_models.random_control_net(sides.sizes, seed=seed) for seed in range(most)]
    prompts, runs = random_prompts(sides.sizes.hidden), {"ours": [], "diffusers": []}
    hint, chain = torch.rand(1, 3, 8 * work.cells, 8 * work.cells, generator=torch.Generator().manual_seed(0)), None
    for count in range(most + 1):
        if count:
            path = sides.folder / f"control{count}.safetensors"
            save_file(networks[count - 1].state_dict(), path)
            loaded = control_net.load_control_net(path, sides.model)
            chain = loaded.copy().set_cond_hint(hint, WEIGHT, (0.0, 1.0)).set_previous_controlnet(chain)
        carried = {"control": chain} if chain else {}
        ours = Conditioned([[[states, extra | carried]] for [[states, extra]] in prompts.conditioning])
        controls = [Control(network, hint, WEIGHT) for network in networks[:count]]
        runs["ours"].append(partial(sample, sides.model, ours, work.cells, work.steps))
        runs["diffusers"].append(partial(draw_controlled, controlled(sides, controls, work), prompts, work))
    return runs


def controlled(sides: Sides, controls: list[Control], work: Work):
    """diffusers' pipeline with ControlNets."""
    if not controls:
        return sides.pipe
    pipe = build_pipeline(copy.deepcopy(sides.pipe.unet), build_scheduler("euler"))
    pipe.unet.forward = ControlledUNet(pipe.unet, controls, work.steps)
    return pipe


def draw_controlled(pipe, prompts, work: Work) -> torch.Tensor:
    if isinstance(pipe.unet.forward, ControlledUNet):
        pipe.unet.forward.call = 0  # it counts the steps of one run
    return sample_reference(pipe, prompts, work.cells, work.steps)


@dataclass(frozen=True)
class Loras:
    """Runs with none to some LoRAs, and the MODELs of ours, in the same order."""

    runs: Runs
    models: list[Any]
    wait: bool

    def load(self, side: str, count: int) -> None:
        """Bring the MODEL of a run of ours to where it computes, its LoRAs in the weights or beside them."""
        if side == "ours":
            comfy.model_management.load_models_gpu([self.models[count]])
            if waiting(self.models[count]) != (self.wait and count > 0):
                raise AssertionError(f"the LoRAs {'do not wait' if self.wait else 'wait'}")


def waiting(model) -> bool:
    """Whether something is to be done to a weight whenever it is used."""
    names = ("weight_function", "weight_lowvram_function")
    return any(getattr(layer, name, None) for layer in model.model.modules() for name in names)


def loras(sides: Sides, most: int, work: Work, fused: bool) -> Loras:
    """None to `most` LoRAs; diffusers' are fused into the weights, or else computed beside them.

    Ours are in the weights in the first case, and wait in the other, to be measured where models are `partly_loaded`.
    """
    prompts, models, pipes = random_prompts(sides.sizes.hidden), [sides.model], [sides.pipe]
    adapters = []
    for number in range(1, most + 1):
        pairs = random_pairs(sides.pipe.unet, seed=number)
        tensors = written(pairs, "unet.{}".format, ".lora.down.weight", ".lora.up.weight")
        path = sides.folder / f"lora{number}.safetensors"
        save_file(tensors, path)
        models.append(lora.apply_lora(models[-1], None, str(path), WEIGHT, 0.0).model)
        adapters.append(tensors)
        pipe = build_pipeline(copy.deepcopy(sides.pipe.unet), build_scheduler("euler"))
        for index, each in enumerate(adapters):
            pipe.load_lora_weights({key: value.clone() for key, value in each.items()}, adapter_name=f"lora{index}")
        names = [f"lora{index}" for index in range(number)]
        pipe.set_adapters(names, [WEIGHT] * number)
        if fused:
            pipe.fuse_lora(adapter_names=names)
            pipe.unload_lora_weights()
        pipes.append(pipe)
    runs = {
        "diffusers": [partial(sample_reference, pipe, prompts, work.cells, work.steps) for pipe in pipes],
        "ours": [partial(sample, model, prompts, work.cells, work.steps) for model in models],
    }
    return Loras(runs, models, wait=not fused)


@contextmanager
def partly_loaded() -> Iterator[None]:
    """Models are loaded as where the device has room for none of their layers; LoRAs then wait beside the weights.

    ComfyUI computes a layer's LoRAs anew whenever it brings that layer, in every step. On a CPU it never comes to that
    by itself.
    """
    comfy.model_management.unload_all_models()
    whole = ModelPatcher.partially_load

    def none(self, device, extra_memory=0, **options):
        return whole(self, device, 0.1, **options)

    ModelPatcher.partially_load = none
    try:
        yield
    finally:
        ModelPatcher.partially_load = whole
        comfy.model_management.unload_all_models()
