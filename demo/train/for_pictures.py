"""Train the small models that the pictures of the templates need beside the miniature: its ControlNet and the like.

    python demo/train/for_pictures.py NAME FILE [--steps N]

NAME is one of
    control     a ControlNet for edges
    inpainting  a UNet that also takes a mask and the image around it
    blue        a LoRA that paints in blue on white, as on porcelain
    restyled    the UNet with that LoRA in its weights
    fast        a LoRA that draws in few steps, without guidance
    guided      a UNet that takes the guidance as an input
    images      nothing: FILE is a sheet of the images that all of them learn from

They learn from images that the miniature draws at the first call, turned, moved and scaled, so that nothing but the
exported files is needed. Checkpoints go to `.dev/train`. These are drafts for pictures of 128 pixels, not measured.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from common import MODELS, WORK, Average, Checkpoint, Clock, Running, autocast, log, start, train
from data import COLOUR_NAMES, EMOJI, caption
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusion import alphas, captions, noisy_batch, size_ids
from judge import border_colour
from kornia.filters import canny
from PIL import Image
from pipeline import Pipeline
from safetensors.torch import save_file
from text import tokenize
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from kolors_core.networks.chatglm3 import pack_prompts
from kolors_core.networks.guidance import guidance_embedding
from kolors_core.networks.tokenizer import PROMPT_ROWS

COLOURS_EACH = 3  # of every emoji
VIEWS = 3  # of every drawn image
STEPS = 15  # of each
BATCH = 16
GUIDANCE = 4.0
EDGES = (0.2, 0.4)  # thresholds, as in the templates
NAVY, PORCELAIN, LUMA = (0.06, 0.16, 0.52), (0.95, 0.96, 0.97), (0.3, 0.59, 0.11)
RANK = 16
LEARNT = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "proj_in", "proj_out")

Row = tuple[int, str, str]  # emoji, colour, word of the layout
Given = dict[str, Tensor]


class Miniature(Pipeline):
    """The exported files, and prompts in all their rows, which a ControlNet needs."""

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Context (n, 256, hidden) and pooled (n, hidden)."""
        with torch.no_grad():
            packed = pack_prompts([tokenize(self.tokenizer, text) for text in texts], PROMPT_ROWS)
            hidden, pooled = self.encoder(packed)
            return hidden[packed.expand], pooled

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> Tensor:
        """Of pixels (n, 3, h, w) in 0..1."""
        with autocast():
            return torch.cat([self.vae.encoder.layers(part).float() for part in pixels.split(32)])


def drawn_images(model: Miniature) -> tuple[Tensor, list[Row]]:
    """Images (n, 3, 128, 128) in 0..1 that the miniature draws, and what they show; kept in the work folder."""
    path, rng = WORK / "drawn.pt", random.Random(11)
    rows = [(i, colour, "") for i in range(len(EMOJI)) for colour in rng.sample(COLOUR_NAMES, COLOURS_EACH)]
    if not path.is_file():
        images = []
        for first in range(0, len(rows), 40):
            texts = [caption(EMOJI[i], c, rng.choice(("zh", "en")), rng, template=0) for i, c, _ in rows[first:][:40]]
            with torch.no_grad(), autocast():
                images.append(model.draw(texts, range(first, first + len(texts)), GUIDANCE, STEPS))
            log(f"{first + len(texts)} of {len(rows)} images drawn")
        partial = path.with_suffix(f".{os.getpid()}")
        torch.save(torch.from_numpy(numpy.concatenate(images)).permute(0, 3, 1, 2), partial)
        os.replace(partial, path)
    return torch.load(path, weights_only=True).float() / 255, rows


def split_background(images: Tensor) -> tuple[Tensor, Tensor]:
    """Background colours (n, 3, 1, 1), and what differs from them."""
    colours = torch.stack([border_colour(image) for image in images])[:, :, None, None]
    return colours, images - colours


def turned(images: Tensor, rng: random.Random) -> Tensor:
    """Each image turned, scaled, moved and half of them mirrored, on its own background."""
    colours, front = split_background(images)
    places = []
    for _ in images:
        angle, scale = rng.uniform(-0.9, 0.9), rng.uniform(0.95, 1.9)
        turn = torch.tensor([[numpy.cos(angle), -numpy.sin(angle)], [numpy.sin(angle), numpy.cos(angle)]]) * scale
        turn[:, 0] *= rng.choice((-1, 1))
        reach = max(0.0, 1 - 0.8 / scale)
        shift = turn @ torch.tensor([[rng.uniform(-reach, reach)], [rng.uniform(-reach, reach)]], dtype=turn.dtype)
        places.append(torch.cat((turn, shift), 1).float())
    grid = functional.affine_grid(torch.stack(places), list(images.shape), align_corners=False)
    return (functional.grid_sample(front, grid, align_corners=False) + colours).clamp(0, 1)


def in_blue(images: Tensor) -> Tensor:
    """As painted in blue on white porcelain: the brightness of what stands on the background, from navy to white."""
    _, front = split_background(images)
    shape = (functional.avg_pool2d(front.abs().amax(1, keepdim=True), 5, 1, 2) * 6).clamp(0, 1)
    bright = (images * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    dark, white = torch.tensor(NAVY)[:, None, None], torch.tensor(PORCELAIN)[:, None, None]
    painted = dark + (white - dark) * ((bright - 0.1) / 0.75).clamp(0, 1) ** 1.3
    return white + shape * (0.9 * painted + 0.1 * dark - white)


def random_masks(count: int, rng: random.Random) -> Tensor:
    """Masks (count, 1, 128, 128): a rectangle or an ellipse of any size, some over nearly everything."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    masks = []
    for _ in range(count):
        centre, half = [rng.uniform(30, 98) for _ in "yx"], [rng.uniform(18, 62) for _ in "yx"]
        v, u = ((y - centre[0]) / half[0]).abs(), ((x - centre[1]) / half[1]).abs()
        masks.append(torch.maximum(u, v) <= 1 if rng.random() < 0.4 else u**2 + v**2 <= 1)
    return torch.stack(masks)[:, None].float()


def small_mask(masks: Tensor) -> Tensor:
    """A mask in the size of latents."""
    return functional.interpolate(masks, scale_factor=1 / 8, mode="bilinear").round()


class Steps(Clock):
    """Counts steps alone: how long they take depends on what else the machine does."""

    def over(self) -> bool:
        return self.step >= self.budget

    def rate(self, peak: float, warmup: int, floor: float = 0.02) -> float:
        done = self.step / self.budget
        return peak * min(1.0, (self.step + 1) / warmup) * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


class LoRA(nn.Module):
    """A low-rank change of a weight."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.down = nn.Parameter(torch.randn(RANK, *weight.shape[1:]) / weight[0].numel() ** 0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], RANK, *(1,) * (weight.ndim - 2)))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up.flatten(1) @ self.down.flatten(1)).view_as(weight)


def wider_unet(unet: UNet2DConditionModel, **changes: int) -> UNet2DConditionModel:
    """One with other arguments and the same weights; new ones are zero, so that it draws what it drew."""
    config = {name: value for name, value in unet.config.items() if not name.startswith("_")} | changes
    wider, state = UNet2DConditionModel(**config), unet.state_dict()
    for name, tensor in wider.state_dict().items():
        old = state.get(name)
        if old is None or old.shape != tensor.shape:
            new = torch.zeros_like(tensor)
            if old is not None:
                new[:, : old.shape[1]] = old
            state[name] = new
    wider.load_state_dict(state)
    return wider


class Kind:
    """One of the models: how it learns from images, and what its file holds."""

    steps, rate = 300, 5e-4
    file = ""  # of the checkpoint, where it is not that of the kind's own name
    prompts_all = False  # every caption says what there is to see

    def __init__(self, model: Miniature, images: Tensor, rows: list[Row], rng: random.Random):
        self.model, self.unet = model, model.unet.requires_grad_(False)
        self.images, self.rows = self.views(images, rng), rows * self.count
        self.given = self.prepare(rng) | {"latents": model.latents(self.images)}

    count = 1

    def views(self, images: Tensor, rng: random.Random) -> Tensor:
        return images

    def prepare(self, rng: random.Random) -> Given:
        """What belongs to every image."""
        return {}

    def trained(self) -> nn.Module:
        raise NotImplementedError

    def predict(self, noisy: Tensor, steps: Tensor, context: Tensor, added: Given, given: Given) -> Tensor:
        return self.unet(noisy, steps, context, added_cond_kwargs=added).sample

    def target(self, noise: Tensor, noisy: Tensor, steps: Tensor, context: Tensor, added: Given) -> Tensor:
        return noise

    def tensors(self) -> Given:
        """The file, in float32."""
        return self.trained().state_dict()


class Turned(Kind):
    """Learns from images that are turned and moved."""

    count = VIEWS

    def views(self, images: Tensor, rng: random.Random) -> Tensor:
        return torch.cat([turned(images, rng) for _ in range(self.count)])


class Control(Turned):
    def prepare(self, rng):
        self.net = ControlNetModel.from_unet(self.unet)
        own = self.net.state_dict()
        self.net.load_state_dict(
            {key: value for key, value in self.unet.state_dict().items() if key in own}, strict=False
        )
        self.net.requires_grad_(True)
        edges = [canny(part, *EDGES)[1] for part in self.images.split(64)]
        return {"edges": torch.cat(edges).bool()}

    def trained(self):
        return self.net

    def predict(self, noisy, steps, context, added, given):
        edges = given["edges"].float().expand(-1, 3, -1, -1)
        down, middle = self.net(noisy, steps, context, edges, added_cond_kwargs=added, return_dict=False)
        return self.unet(
            noisy, steps, context, added_cond_kwargs=added,
            down_block_additional_residuals=down, mid_block_additional_residual=middle,
        ).sample  # fmt: skip


class Inpainting(Kind):
    """Upright images, each under two masks: it would draw turned ones else."""

    steps, rate, count = 250, 3e-4, 2

    def views(self, images, rng):
        return images.repeat(self.count, 1, 1, 1)

    def prepare(self, rng):
        self.net = wider_unet(self.unet, in_channels=9)
        masks = random_masks(len(self.images), rng)
        around = self.images * (1 - masks) + 0.5 * masks
        return {"mask": small_mask(masks), "around": self.model.latents(around)}

    def trained(self):
        return self.net

    def predict(self, noisy, steps, context, added, given):
        return self.net(
            torch.cat((noisy, given["mask"], given["around"]), 1), steps, context, added_cond_kwargs=added
        ).sample


class Adapted(Kind):
    """A LoRA."""

    steps, rate = 200, 1e-3

    def prepare(self, rng):
        self.loras = nn.ModuleDict()
        for name, module in list(self.unet.named_modules()):
            if name.endswith(LEARNT):
                lora = self.loras[name.replace(".", "/")] = LoRA(module.weight)
                parametrize.register_parametrization(module, "weight", lora, unsafe=True)
        return {}

    def trained(self):
        return self.loras

    def tensors(self):
        parts = {"down": "lora_A", "up": "lora_B"}
        names = (key.rpartition(".") for key in self.loras.state_dict())
        return {
            f"unet.{name.replace('/', '.')}.{parts[part]}.weight": self.loras.state_dict()[f"{name}.{part}"]
            for name, _, part in names
        }


class Blue(Adapted):
    def views(self, images, rng):
        return in_blue(images)


class Restyled(Blue):
    file = "blue"

    def tensors(self):
        for name in self.loras:
            parametrize.remove_parametrizations(self.unet.get_submodule(name.replace("/", ".")), "weight")
        return self.unet.state_dict()


class Fast(Adapted):
    """The images were drawn with guidance, so what learns from them needs none."""

    prompts_all = True


class Guided(Kind):
    rate = 3e-4
    width = 256

    def prepare(self, rng):
        self.net = wider_unet(self.unet, time_cond_proj_dim=self.width)
        self.empty = self.model.encode([""])
        return {}

    def trained(self):
        return self.net

    def target(self, noise, noisy, steps, context, added):
        """What guidance makes of two predictions; how much of it differs by image."""
        size = len(noisy)
        self.scales = 1 + 6 * torch.rand(size)
        without = {**added, "text_embeds": self.empty[1].expand(size, -1)}
        with torch.no_grad():
            negative = self.unet(noisy, steps, self.empty[0].expand(size, -1, -1), added_cond_kwargs=without).sample
            positive = self.unet(noisy, steps, context, added_cond_kwargs=added).sample
        return negative + self.scales[:, None, None, None] * (positive - negative)

    def predict(self, noisy, steps, context, added, given):
        scales = torch.cat([guidance_embedding(scale, self.width) for scale in self.scales.tolist()])
        return self.net(noisy, steps, context, timestep_cond=scales, added_cond_kwargs=added).sample


KINDS: dict[str, type[Kind]] = {
    "control": Control,
    "inpainting": Inpainting,
    "blue": Blue,
    "restyled": Restyled,
    "fast": Fast,
    "guided": Guided,
}


def make_step(kind: Kind, rng: random.Random, running: Running) -> Callable[[], tuple[Tensor, str]]:
    table = alphas()

    def step() -> tuple[Tensor, str]:
        chosen = torch.tensor([rng.randrange(len(kind.rows)) for _ in range(BATCH)])
        given = {name: tensor[chosen] for name, tensor in kind.given.items()}
        rows = [kind.rows[i] for i in chosen.tolist()]
        noisy, noise, steps, weight = noisy_batch(given["latents"], table)
        if kind.prompts_all:
            texts = [caption(EMOJI[i], colour, rng.choice(("zh", "en")), rng) for i, colour, _ in rows]
        else:
            texts = list(captions(rng, rows))
        context, pooled = kind.model.encode(texts)
        added = {"text_embeds": pooled, "time_ids": size_ids(rng, BATCH)}
        with autocast():
            target = kind.target(noise, noisy, steps, context, added)  # first: what it draws, `predict` may need
            found = kind.predict(noisy, steps, context, added, given)
        loss = (weight * ((found.float() - target.float()) ** 2).mean((1, 2, 3))).mean()
        running.add(loss.item())
        return loss, f"loss {running:.4f}"

    return step


def write_sheet(images: Tensor, path: Path) -> None:
    """The first images, turned and in blue below."""
    some = images[torch.arange(16) * 7]
    rows = [torch.cat(list(each), 2) for each in (some, turned(some, random.Random(0)), in_blue(some))]
    Image.fromarray((torch.cat(rows, 1) * 255).byte().permute(1, 2, 0).numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=(*KINDS, "images"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, help="in all, over every start")
    args = parser.parse_args()
    start()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, rng = Miniature(MODELS, adapter=False), random.Random(3)
    images, rows = drawn_images(model)
    if args.name == "images":
        write_sheet(images, args.file)
        return
    kind = KINDS[args.name](model, images, rows, rng)
    trained = kind.trained()
    average = Average(trained, 0.99)
    optimiser = torch.optim.AdamW(trained.parameters(), lr=kind.rate, weight_decay=0.01, betas=(0.9, 0.98))
    checkpoint = Checkpoint(
        f"for-pictures-{kind.file or args.name}", model=trained, average=average, optimiser=optimiser
    )
    clock = Steps(1, checkpoint.load())
    clock.budget = args.steps or kind.steps
    step = make_step(kind, clock.seed(), Running(0.98))
    train(step, clock, optimiser, checkpoint, kind.rate, warmup=30, average=average, shown=50, saved=60)
    trained.load_state_dict(average.shadow)
    args.file.parent.mkdir(parents=True, exist_ok=True)
    partial = args.file.with_suffix(".partial")
    save_file({key: tensor.half().contiguous() for key, tensor in kind.tensors().items()}, partial)
    partial.replace(args.file)
    log(f"{args.file.name} {args.file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
