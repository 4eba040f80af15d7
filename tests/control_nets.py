"""One sampling run with ControlNets by diffusers' classes, and a Control-LoRA of random weights."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

import torch
from comfyui_kolors.kolors_core.networks.vision import to_pil
from image_prompts import reference_pipeline
from reference import build_pipeline, build_scheduler, community
from sampling_runs import prompts, run
from torch import Tensor, nn

STEPS = 10


@dataclass(frozen=True)
class Control:
    """A ControlNetModel with a picture (1, 3, height, width).

    It counts at step i of n where start <= i / n and (i + 1) / n <= end.
    """

    network: nn.Module
    picture: Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0


class ControlledUNet:
    """Calls a UNet with the sum of several ControlNets' residuals, each fed with what the UNet is fed with.

    diffusers' ControlNetModel leaves its encoder_hid_proj to the caller.
    """

    def __init__(self, unet, controls: list[Control], steps: int):
        self.forward, self.controls, self.steps = unet.forward, controls, steps
        self.call = 0

    def __call__(self, sample, timestep, encoder_hidden_states, added_cond_kwargs, **options):
        residuals = []
        for control in self.controls:
            share, after = self.call / self.steps, (self.call + 1) / self.steps
            keep = not (share < control.start or after > control.end)
            network = control.network
            down, middle = network(
                sample,
                timestep,
                encoder_hidden_states=network.encoder_hid_proj(encoder_hidden_states),
                controlnet_cond=control.picture.expand(len(sample), -1, -1, -1),
                conditioning_scale=control.strength * keep,
                added_cond_kwargs=added_cond_kwargs,
                return_dict=False,
            )
            residuals.append([*down, middle])
        self.call += 1
        *down, middle = (sum(parts) for parts in zip(*residuals))
        return self.forward(
            sample,
            timestep,
            encoder_hidden_states=encoder_hidden_states,
            added_cond_kwargs=added_cond_kwargs,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            **options,
        )


@torch.no_grad()
def theirs(
    unet, controls: list[Control], cfg: float = 5.0, batch: int = 1, adapter=None, image=None, scale: float = 1.0
) -> Tensor:
    """Final latents of diffusers' KolorsPipeline with ControlNets, Euler, 10 steps, 128 pixels.

    adapter: an IP-Adapter's tensors beside them, for `image` (1, height, width, 3).
    """
    options = {}
    if adapter is None:
        pipe = build_pipeline(copy.deepcopy(unet), build_scheduler("euler"))
    else:
        pipe = reference_pipeline(unet, [adapter])
        pipe.set_ip_adapter_scale(scale)
        options["ip_adapter_image"] = to_pil(image[0])
    pipe.unet.forward = ControlledUNet(pipe.unet, controls, STEPS)
    return run(pipe, _states(batch), cfg, num_inference_steps=STEPS, height=128, width=128, **options)


@torch.no_grad()
def theirs_by_community_pipeline(unet, control: Control, cfg: float = 5.0) -> Tensor:
    """The same by the community's own Kolors ControlNet pipeline, which takes one ControlNet."""
    kind = community("pipeline_controlnet_xl_kolors").KolorsControlNetPipeline
    pipe = build_pipeline(unet, build_scheduler("euler"), kind, controlnet=control.network)
    return run(
        pipe, _states(1), cfg, num_inference_steps=STEPS, image=control.picture,
        controlnet_conditioning_scale=control.strength, control_guidance_start=control.start,
        control_guidance_end=control.end,
    )  # fmt: skip


def _states(batch: int) -> list[Tensor]:
    return [state.expand(batch, *state.shape[1:]) for pair in zip(*prompts()) for state in pair]


def random_control_lora(control_net: dict[str, Tensor], rank: int = 4) -> dict[str, Tensor]:
    """A Control-LoRA as stability.ai's files have it, of the shapes of a ControlNet's SD-named tensors.

    Matrices and convolutions of the blocks are low-rank differences, everything else is whole.
    """
    generator = torch.Generator().manual_seed(4)
    lora = {"lora_controlnet": torch.tensor([])}
    for key, tensor in control_net.items():
        whole = not re.match(r"(time_embed|label_emb|input_blocks|middle_block)\.", key) or tensor.ndim < 2
        if key.startswith("encoder_hid_proj."):
            continue
        if whole:
            lora[key] = tensor
        else:
            name = key.removesuffix(".weight")
            lora[f"{name}.up"] = torch.randn(tensor.shape[0], rank, generator=generator) * 0.05
            lora[f"{name}.down"] = torch.randn(rank, *tensor.shape[1:], generator=generator) * 0.05
    return lora
