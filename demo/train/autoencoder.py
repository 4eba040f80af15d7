"""Train the autoencoder: TAESD's architecture, so that the stock VAE loader reads the file.

    torchrun --nproc-per-node 2 demo/train/autoencoder.py [--minutes 12]
    torchrun --nproc-per-node 2 demo/train/autoencoder.py --decoder [--minutes 12]

The second command goes on with the decoder alone, for pictures that are sharper; the latents, and so a UNet trained on
them, stay as they are.

Images in 0..1; latents of 4 channels at an eighth of the size. During training a batch normalisation without weights
stands between encoder and decoder, so that latents have mean 0 and deviation 1; `fold` moves it into the encoder's last
convolution afterwards. It is convolutional and local, so crops of 64 pixels train it.

Source of the architecture: madebyollin/taesd, as in diffusers' AutoencoderTiny.
"""

from __future__ import annotations

import argparse
import random

import numpy
import torch
from common import PROCESSES, WORK, Checkpoint, Clock, Running, autocast, start, train
from data import COLOURS, EMOJI, SIDE, render, sample_layout
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

CROP = 64
BATCH = 16


#: brightness, red against blue, green against both: colour in three independent numbers, rows of length 1
OPPONENT = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
#: mean and deviation of these over the training pictures
SPREAD = ((0.99, 0.38), (0.15, 0.29), (0.01, 0.19))


@torch.no_grad()
def start_from_colour(vae: AutoencoderTiny) -> None:
    """Initial weights that already pass the mean colour of each cell: three channels of each layer carry it through.

    Every cell's colour becomes three of its four latents, and comes back as a flat patch. What is left to learn are the
    details. From random weights colour is the last thing to be learnt, and takes several times longer than all else.
    """
    for part in (vae.encoder, vae.decoder):
        for block in part.layers:
            if isinstance(block, nn.Conv2d):
                block.weight *= 3**0.5  # keeps the deviation of what passes through
            elif hasattr(block, "conv"):  # a residual block: leave the three channels alone
                block.conv[-1].weight[:3] = 0
                block.conv[-1].bias[:3] = 0
    opponent = torch.tensor(OPPONENT)
    *downs, last = (layer for layer in vae.encoder.layers if isinstance(layer, nn.Conv2d))
    for layer in downs:
        layer.weight[:3] = 0
        for channel in range(3):
            if layer.stride == (2, 2):
                layer.weight[channel, channel, 1:, 1:] = 0.25  # the mean of two by two
            else:
                layer.weight[channel, channel, 1, 1] = 1
    downs[0].bias[:3] = 0
    last.weight[:3], last.bias[:3] = 0, 0
    last.weight[:3, :3, 1, 1] = opponent
    first, *ups, last = (layer for layer in vae.decoder.layers if isinstance(layer, nn.Conv2d))
    mean, spread = torch.tensor(SPREAD).T
    first.weight[:3] = 0
    first.weight[:3, :3, 1, 1] = opponent.T * spread
    first.bias[:3] = opponent.T @ mean
    for layer in ups:
        layer.weight[:3] = 0
        for channel in range(3):
            layer.weight[channel, channel, 1, 1] = 1
    last.weight *= 0.05
    for channel in range(3):
        last.weight[channel, channel, 1, 1] = 1
    last.bias[:] = 0


class Trainee(nn.Module):
    """AutoencoderTiny with normalised latents."""

    def __init__(self):
        super().__init__()
        self.vae = AutoencoderTiny()
        self.norm = nn.BatchNorm2d(4, affine=False, momentum=0.02)
        start_from_colour(self.vae)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (b, 3, h, w) in 0..1 -> latents (b, 4, h/8, w/8)."""
        # diffusers' module takes -1..1 and returns to 0..1 itself; its layers are used here without that
        return self.norm(self.vae.encoder.layers(pixels).float())

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> pixels in 0..1 (not clipped)."""
        return self.vae.decoder.layers(torch.tanh(latents / 3) * 3)


@torch.no_grad()
def fold(model: Trainee) -> AutoencoderTiny:
    """Move the normalisation into the encoder's last convolution; returns the plain autoencoder."""
    last = model.vae.encoder.layers[-1]
    scale = (model.norm.running_var + model.norm.eps).rsqrt()
    last.weight.mul_(scale[:, None, None, None])
    last.bias.copy_((last.bias - model.norm.running_mean) * scale)
    model.norm.running_mean.zero_()
    model.norm.running_var.fill_(1 - model.norm.eps)
    return model.vae


def batch(rng: random.Random, size: int) -> Tensor:
    """Random crops (size, 3, 64, 64) in 0..1. Most backgrounds are the eight colours, some any colour."""
    crops = numpy.empty((size, CROP, CROP, 3), dtype=numpy.uint8)
    names = list(COLOURS)
    for row in range(size):
        colour = rng.choice(names) if rng.random() < 0.8 else tuple(rng.randrange(256) for _ in range(3))
        image = render(rng.randrange(len(EMOJI)), colour, sample_layout(rng))
        x, y = (rng.randrange(SIDE - CROP + 1) for _ in range(2))
        crops[row] = image[y : y + CROP, x : x + CROP]
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def loss_of(model: Trainee, pixels: Tensor, noise: float = 0.04) -> Tensor:
    """L1 of pixels and of their horizontal and vertical differences, at two scales; latents get a little noise."""
    with torch.set_grad_enabled(model.norm.training):
        latents = model.encode(pixels)
    out = model.decode(latents + noise * torch.randn_like(latents)).float()
    error = out - pixels
    loss = error.abs().mean() + 0.5 * (error**2).mean()
    for scale in (1, 2):
        pooled = functional.avg_pool2d(error, scale) if scale > 1 else error
        loss = loss + pooled.diff(dim=-1).abs().mean() + pooled.diff(dim=-2).abs().mean()
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=12, help="training time in all, over every start")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--decoder", action="store_true", help="train the decoder only, from the trained autoencoder")
    args = parser.parse_args()
    start()
    torch.manual_seed(0)
    model = Trainee().to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    if args.decoder:
        model.load_state_dict(torch.load(WORK / "autoencoder.pt", weights_only=True)["model"])
        model.norm.eval()
        parameters = list(model.vae.decoder.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=args.rate, weight_decay=1e-4, betas=(0.9, 0.98))
    checkpoint = Checkpoint("decoder" if args.decoder else "autoencoder", model=model, optimiser=optimiser)
    clock = Clock(args.minutes, checkpoint.load())
    rng, running = clock.seed(), Running(0.98)

    def step() -> tuple[Tensor, str]:
        pixels = batch(rng, BATCH // PROCESSES).to(memory_format=torch.channels_last)
        with autocast():
            loss = loss_of(model, pixels)
        running.add(loss.item())
        return loss, f"loss {running:.4f}"

    train(step, clock, optimiser, checkpoint, args.rate, saved=90)


if __name__ == "__main__":
    main()
