"""One random LoRA in every style of keys that users have, and a sampling run with it by diffusers' pipeline."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import torch
from reference import build_pipeline, build_scheduler
from safetensors.torch import save_file
from sampling_runs import prompts, run
from torch import Tensor

RANK = 4
ADAPTER = "default"
#: Modules of diffusers' UNet that trainers change: attention everywhere, and what fewer of them reach.
TARGETS = re.compile(r".*\.(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|conv1)|encoder_hid_proj")

Pairs = dict[str, tuple[Tensor, Tensor]]


def random_pairs(network, targets: re.Pattern = TARGETS, seed: int = 5) -> Pairs:
    """(down, up) of each module of `network` whose name fits, in the shapes of PEFT: linear or convolution."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, module in network.named_modules():
        if targets.fullmatch(name):
            weight = module.weight
            down = torch.randn(RANK, *weight.shape[1:], generator=generator) * 0.1
            up = torch.randn(weight.shape[0], RANK, *(1,) * (weight.ndim - 2), generator=generator) * 0.1
            pairs[name] = (down, up)
    return pairs


def written(pairs: Pairs, name, down: str, up: str, alpha: float | None = None) -> dict[str, Tensor]:
    """A LoRA's tensors; `name` gives what a module is called, `down` and `up` what follows it."""
    tensors = {}
    for module, pair in pairs.items():
        for part, value in zip((down, up), pair):
            tensors[name(module) + part] = value.clone()
        if alpha is not None:
            tensors[name(module) + ".alpha"] = torch.tensor(alpha)
    return tensors


def styles(pairs: Pairs, sd_names: dict[str, str], diffsynth_names: dict[str, str]) -> dict[str, dict[str, Tensor]]:
    """The same LoRA as each trainer writes it. sd_names, diffsynth_names: by diffusers' module names."""

    def diffsynth(module: str) -> str:
        for prefix, block in diffsynth_names.items():
            if module.startswith(prefix + "."):
                rest = module.removeprefix(prefix).replace("to_out.0", "to_out")
                return block + rest.replace("ff.net.0.proj", "act_fn.proj").replace("ff.net.2", "ff")
        return "text_intermediate_proj" if module == "encoder_hid_proj" else module

    peft = (".lora_A.weight", ".lora_B.weight")
    kohya = (".lora_down.weight", ".lora_up.weight")
    return {
        "diffusers": written(pairs, "unet.{}".format, ".lora.down.weight", ".lora.up.weight"),
        "diffusers with PEFT": written(pairs, "unet.{}".format, *peft),
        "PEFT": written(pairs, "base_model.model.{}".format, *peft),
        "without a prefix": written(pairs, str, *peft),
        "kohya": written(pairs, lambda m: "lora_unet_" + m.replace(".", "_"), *kohya, alpha=RANK),
        "kohya with SD names": written(
            pairs, lambda m: "lora_unet_" + sd_names[m].replace(".", "_"), *kohya, alpha=RANK
        ),
        "SimpleTuner LyCORIS": written(pairs, lambda m: "lycoris_" + m.replace(".", "_"), *kohya),
        "ComfyUI": written(pairs, lambda m: "diffusion_model." + sd_names[m], *kohya),
        "DiffSynth": written(pairs, diffsynth, ".lora_A.default.weight", ".lora_B.default.weight"),
    }


def old_processors(pairs: Pairs) -> dict[str, Tensor]:
    """The oldest style of diffusers, which knew attention alone: unet.….attn1.processor.to_q_lora.down.weight."""
    attention = {module: pair for module, pair in pairs.items() if ".attn" in module}

    def name(module: str) -> str:
        return "unet." + re.sub(r"\.(to_\w+)(\.0)?$", r".processor.\1", module)

    return written(attention, name, "_lora.down.weight", "_lora.up.weight")


def save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> str:
    """Write a LoRA as its ending asks."""
    if path.suffix == ".safetensors":
        save_file(tensors, path, metadata)
    else:
        torch.save(tensors, path)
    return str(path)


def metadata_of(alpha: float) -> dict[str, str]:
    """What diffusers writes beside a LoRA that it saves."""
    return {"format": "pt", "lora_adapter_metadata": json.dumps({"unet.r": RANK, "unet.lora_alpha": alpha})}


@torch.no_grad()
def theirs(unet, tensors: dict[str, Tensor], strength: float = 1.0, cfg: float = 5.0) -> Tensor:
    """Final latents of diffusers' pipeline with `load_lora_weights`, Euler, 10 steps, 128 pixels."""
    pipe = build_pipeline(copy.deepcopy(unet), build_scheduler("euler"))
    pipe.load_lora_weights({key: value.clone() for key, value in tensors.items()}, adapter_name=ADAPTER)
    pipe.set_adapters([ADAPTER], [strength])
    states = [state for pair in zip(*prompts()) for state in pair]
    return run(pipe, states, cfg, height=128, width=128)
