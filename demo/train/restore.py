"""Fill the work folder from exported files, so that training goes on where nothing but these files is left.

    python demo/train/restore.py [FOLDER]

FOLDER is demo/models/kolors-demo by default. What the files do not hold starts anew: the optimisers, and the linear
layers that only name. Checkpoints that are there already are left alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from adapter import EXPANSION, WIDTH, Namer, adapter_parts
from autoencoder import Trainee
from common import MODELS, WORK, Average, log, start
from diffusion import diffusion_parts
from pipeline import Pipeline
from torch import nn


def write(name: str, model: nn.Module) -> None:
    """A checkpoint before its first step; the averaged weights are the model's own."""
    path = WORK / f"{name}.pt"
    if path.is_file():
        log(f"{path.name} is there already")
        return
    torch.save({"model": model.state_dict(), "average": Average(model).state_dict(), "clock": {}}, path)
    log(f"{path.name} restored")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    start()
    plain, full = Pipeline(folder, adapter=False), Pipeline(folder)
    tokenizer = WORK / "tokenizer.model"
    if not tokenizer.is_file():
        tokenizer.write_bytes(plain.tokenizer.model)
    trainee = Trainee()
    trainee.vae = plain.vae
    trainee.norm.running_var.fill_(1 - trainee.norm.eps)  # folded into the encoder: it changes nothing any more
    write("autoencoder", trainee)
    write("diffusion", diffusion_parts(plain.encoder, plain.unet))
    namer, state_dict = Namer(), full.resampler.state_dict()
    state_dict["proj_in.weight"] = state_dict["proj_in.weight"].unflatten(1, (EXPANSION, WIDTH)).sum(1)
    namer.resampler.load_state_dict(state_dict)
    namer.clip = full.clip
    write("tower", namer)
    write("adapter", adapter_parts(namer, full.adapters))


if __name__ == "__main__":
    main()
