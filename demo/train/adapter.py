"""Train the IP-Adapter Plus on a CLIP-shaped vision tower, with the UNet and the text encoder frozen.

    torchrun --nproc-per-node 2 demo/train/adapter.py names [--minutes 3]
    torchrun --nproc-per-node 2 demo/train/adapter.py adapter [--minutes 12]

The tower's weights are constructed, not trained: they describe each patch and where it is. Its states of some thousand
pictures are computed once. First the resampler learns to name emoji and background from them; then the resampler and
the adapter's keys and values learn from the diffusion loss. The prompt is empty or neutral, or tells a background other
than the picture's; a tenth of the pictures is replaced by zeros, the reference's negative.

Sources: transformers' CLIPVisionModelWithProjection (key names), IP-Adapter's ``resampler.py`` and
``ip_adapter_plus_general`` of Kwai-Kolors (layout).
"""

from __future__ import annotations

import argparse
import random

import numpy
import torch
from common import PROCESSES, RANK, WORK, Average, Checkpoint, Clock, Running, autocast, log, start, train
from data import CENTRED, COLOUR_NAMES, COLOURS, EMOJI, NEUTRAL, render, sample_layout, training_pairs
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from diffusion import BATCH, Latents, alphas, build_unet, load_diffusion, noisy_batch, predict, size_ids
from text import build_encoder, encode_short, load_tokenizer, tokenize
from torch import Tensor, nn
from torch.nn import functional

from kolors_core.networks.vision import IMAGE_SIZE, MEAN, STD

WIDTH, HEADS, DEPTH, PROJECTION = 128, 2, 3, 64
PATCH = 14
PATCHES = (IMAGE_SIZE // PATCH) ** 2
CONTEXT, QUERIES, RESAMPLER = 128, 16, 96
EXPANSION = 8  # the tower's width times this is ViT-L's 1024


class ClipLayer(nn.Module):
    """Pre-norm transformer layer with CLIP's names and its quick GELU."""

    def __init__(self):
        super().__init__()
        self.self_attn = nn.Module()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self.self_attn, name, nn.Linear(WIDTH, WIDTH))
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, r, w) -> (b, r, w)."""
        normed, attn = self.layer_norm1(x), self.self_attn
        heads = (
            part(normed).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(*heads)  # (b, heads, r, d)
        x = x + attn.out_proj(mixed.transpose(1, 2).flatten(2))
        hidden = self.mlp.fc1(self.layer_norm2(x))
        return x + self.mlp.fc2(hidden * torch.sigmoid(1.702 * hidden))


class TinyClip(nn.Module):
    """CLIPVisionModelWithProjection of 128 channels; module names are transformers' keys."""

    def __init__(self):
        super().__init__()
        model = self.vision_model = nn.Module()
        model.embeddings = nn.Module()
        model.embeddings.class_embedding = nn.Parameter(torch.randn(WIDTH) * 0.02)
        model.embeddings.patch_embedding = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        model.embeddings.position_embedding = nn.Embedding(PATCHES + 1, WIDTH)
        model.pre_layrnorm = nn.LayerNorm(WIDTH)  # the published spelling
        model.encoder = nn.Module()
        model.encoder.layers = nn.ModuleList(ClipLayer() for _ in range(DEPTH))
        model.post_layernorm = nn.LayerNorm(WIDTH)
        self.visual_projection = nn.Linear(WIDTH, PROJECTION, bias=False)
        self._construct()

    @torch.no_grad()
    def _construct(self) -> None:
        """Weights that say at once what a patch looks like, and where it is; the layers add little to that.

        Channels 0-47: the 16 lowest cosine frequencies of each colour. Channels 48-111: sines and cosines of the row
        and of the column.
        """
        model = self.vision_model
        waves = torch.cos(torch.pi * (torch.arange(PATCH) + 0.5) * torch.arange(4)[:, None] / PATCH)  # (4, 14)
        basis = torch.einsum("iy,jx->ijyx", waves, waves).flatten(0, 1)  # (16, 14, 14)
        basis = basis / basis.square().sum((1, 2), keepdim=True).sqrt()
        patch = torch.zeros(WIDTH, 3, PATCH, PATCH)
        for colour in range(3):
            patch[16 * colour : 16 * colour + 16, colour] = basis * torch.tensor([0.1] + 15 * [0.2])[:, None, None]
        model.embeddings.patch_embedding.weight.copy_(patch)
        side = IMAGE_SIZE // PATCH
        angle = torch.arange(side)[:, None] * torch.pi / side * torch.arange(1, 17)  # (24, 16)
        waves = torch.cat((angle.sin(), angle.cos()), dim=1)  # (24, 32)
        rows, columns = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
        position = torch.zeros(PATCHES + 1, WIDTH)
        position[1:, 48:112] = 0.7 * torch.cat((rows, columns), dim=-1).flatten(0, 1)
        model.embeddings.position_embedding.weight.copy_(position)
        for layer in model.encoder.layers:
            for last in (layer.self_attn.out_proj, layer.mlp.fc2):
                last.weight *= 0.5

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels (b, 3, 336, 336) -> hidden_states[-2] (b, 577, w) and image embedding (b, projection)."""
        model = self.vision_model
        x = model.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (b, w, 24, 24) -> (b, 576, w)
        x = torch.cat((model.embeddings.class_embedding.expand(x.shape[0], 1, -1), x), dim=1)
        x = x + model.embeddings.position_embedding.weight
        x = model.pre_layrnorm(x)
        *layers, last = model.encoder.layers
        for layer in layers:
            x = layer(x)
        return x, self.visual_projection(model.post_layernorm(last(x)[:, 0]))


def clip_pixels(images: Tensor) -> Tensor:
    """Square images (b, 3, h, w) in 0..1 -> the tower's input, as ComfyUI prepares it."""
    images = functional.interpolate(images, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", antialias=True)
    images = (images * 255).clamp(0, 255).round() / 255
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def build_resampler(width: int = WIDTH) -> IPAdapterPlusImageProjection:
    """IP-Adapter Plus's resampler; four layers, which diffusers takes for granted."""
    return IPAdapterPlusImageProjection(width, CONTEXT, RESAMPLER, depth=4, heads=1, num_queries=QUERIES)


class AdapterAttention(nn.Module):
    """Cross attention of the UNet with a second one to image tokens, for diffusers' `set_attn_processor`."""

    def __init__(self, channels: int):
        super().__init__()
        self.to_k_ip, self.to_v_ip = (nn.Linear(CONTEXT, channels, bias=False) for _ in range(2))
        self.tokens: Tensor | None = None  # (b, 16, context), set before each call of the UNet
        self.scale = 1.0

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None) -> Tensor:
        """hidden_states (b, n, c), encoder_hidden_states (b, r, context), attention_mask (b, 1, r) -> (b, n, c)."""

        def split(x: Tensor) -> Tensor:  # (b, n, c) -> (b, heads, n, d)
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        def attend(key: Tensor, value: Tensor, bias: Tensor | float) -> Tensor:
            scores = query @ split(key).transpose(-1, -2) * attn.scale + bias
            return (scores.softmax(-1).to(query.dtype) @ split(value)).transpose(1, 2).flatten(2)

        query = split(attn.to_q(hidden_states))
        bias = 0.0 if attention_mask is None else attention_mask[:, None]
        out = attend(attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), bias)
        if self.tokens is not None and self.scale:
            out = out + self.scale * attend(self.to_k_ip(self.tokens), self.to_v_ip(self.tokens), 0.0)
        return attn.to_out[0](out)


def attach(unet) -> list[AdapterAttention]:
    """Give every cross attention an AdapterAttention; in the order of the published numbers 1, 3, 5, ..."""
    processors, found = dict(unet.attn_processors), []
    for name in processors:
        if name.endswith("attn2.processor"):
            text = unet.get_submodule(name.removesuffix(".processor"))
            found.append(AdapterAttention(text.to_q.in_features))
            found[-1].to_k_ip.weight.data.copy_(text.to_k.weight)  # a better start than random
            found[-1].to_v_ip.weight.data.copy_(text.to_v.weight)
            processors[name] = found[-1]
    unet.set_attn_processor(processors)
    return found


PAIRS = training_pairs()


class Namer(nn.Module):
    """Tower and resampler, with a linear head that names emoji and colour; only training needs the head."""

    def __init__(self):
        super().__init__()
        self.clip, self.resampler = TinyClip(), build_resampler()
        self.clip.requires_grad_(False)
        self.head = nn.Linear(CONTEXT, len(EMOJI) + len(COLOUR_NAMES))

    def loss(self, tokens: Tensor, pairs: list[tuple[int, str]]) -> tuple[Tensor, Tensor]:
        """Cross entropy of the names told by the tokens' mean (b, context), and the share of right emoji."""
        logits = self.head(tokens.mean(1)).float()
        emoji = torch.tensor([index for index, _ in pairs])
        colours = torch.tensor([COLOUR_NAMES.index(colour) for _, colour in pairs])
        first, second = logits.split((len(EMOJI), len(COLOUR_NAMES)), dim=-1)
        loss = functional.cross_entropy(first, emoji) + functional.cross_entropy(second, colours)
        return loss, (first.argmax(1) == emoji).float().mean()


def adapter_parts(namer: Namer, adapters: list[AdapterAttention]) -> nn.ModuleDict:
    """What phase two trains."""
    return nn.ModuleDict({"resampler": namer.resampler, "head": namer.head, "adapters": nn.ModuleList(adapters)})


class Views:
    """The resting tower's states of reference pictures, half precision; computed at the first use.

    Index 0 of `states` is the picture of zeros. Of every training pair there are `count` layouts. Almost half of them
    are small or at a side, more than among the pictures drawn: they are harder to recognise.
    """

    def __init__(self, clip: TinyClip, count: int = 8):
        rng = random.Random(11)
        zeros = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
        self.rows: dict[tuple[int, str], list[int]] = {}
        parts, number = [clip(zeros)[0].half()], 1
        for pair in PAIRS[RANK::PROCESSES]:  # each process looks at its share
            layouts = [CENTRED, *(sample_layout(rng, large=0.5) for _ in range(count - 1))]
            images = numpy.stack([render(*pair, layout) for layout in layouts])
            pixels = clip_pixels(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
            with autocast():
                parts.append(clip(pixels)[0].half())
            self.rows[pair] = list(range(number, number + count))
            number += count
        self.states = torch.cat(parts)
        self.by_emoji: dict[int, list[tuple[int, str]]] = {}
        for pair in self.rows:
            self.by_emoji.setdefault(pair[0], []).append(pair)


def train_names(args) -> None:
    """Phase one."""
    torch.manual_seed(0)
    model = Namer()
    average = Average(model, 0.99)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=args.rate, weight_decay=0.02, betas=(0.9, 0.98))
    checkpoint = Checkpoint("tower", model=model, average=average, optimiser=optimiser)
    clock = Clock(args.minutes, checkpoint.load())
    with torch.no_grad():
        views = Views(model.clip.eval())
    log(f"states of {len(views.states)} pictures")
    pairs = list(views.rows)
    rng, correct = clock.seed(), Running(0.95)

    def step() -> tuple[Tensor, str]:
        chosen = [rng.choice(pairs) for _ in range(64 // PROCESSES)]
        states = views.states[[rng.choice(views.rows[pair]) for pair in chosen]]
        with autocast():
            loss, hit = model.loss(model.resampler(states.float()), chosen)
        correct.add(hit.item())
        return loss, f"loss {loss.item():.3f} named {correct:.3f}"

    train(step, clock, optimiser, checkpoint, args.rate, average=average, shown=50, saved=60)


NEUTRAL_PROMPTS = (*NEUTRAL.values(), "图片", "一张图片", "picture", "an image")


def train_adapter(args) -> None:
    """Phase two."""
    tokenizer = load_tokenizer()
    encoder, unet = build_encoder(tokenizer), build_unet()
    load_diffusion(encoder, unet)
    encoder.requires_grad_(False)
    unet.requires_grad_(False)
    namer = Namer()
    namer.load_state_dict(torch.load(WORK / "tower.pt", weights_only=True)["average"]["shadow"])
    with torch.no_grad():
        views = Views(namer.clip.eval())
    log(f"states of {len(views.states)} pictures")
    torch.manual_seed(1)
    adapters = attach(unet)
    model = adapter_parts(namer, adapters)
    average = Average(model, 0.99)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.01, betas=(0.9, 0.98))
    checkpoint = Checkpoint("adapter", model=model, average=average, optimiser=optimiser)
    data = Latents()
    clock = Clock(args.minutes, checkpoint.load())
    rng, running = clock.seed(), Running(0.98)
    size, table = BATCH // PROCESSES, alphas()

    def step() -> tuple[Tensor, str]:
        latents, rows = data.batch(rng, size)
        texts, seen, shown = [], [], []
        for index, colour, _ in rows:
            texts.append(rng.choice(("", rng.choice(NEUTRAL_PROMPTS))))
            pair = (index, colour)
            if rng.random() < 0.2 or pair not in views.rows:  # the prompt tells the background, the picture another
                texts[-1] = rng.choice((f"{colour} background", f"{COLOURS[colour][1]}背景"))
                pair = rng.choice(views.by_emoji[index])
            seen.append(0 if rng.random() < 0.1 else rng.choice(views.rows[pair]))
            shown.append(pair)
        noisy, noise, steps, weight = noisy_batch(latents, table)
        with torch.no_grad(), autocast():
            context, bias, pooled = encode_short(encoder, [tokenize(tokenizer, text) for text in texts])
        with autocast():
            tokens = namer.resampler(views.states[seen].float())
            real = [row for row, number in enumerate(seen) if number]
            named, hit = namer.loss(tokens[real], [shown[row] for row in real])
            for module in adapters:
                module.tokens = tokens
            out = predict(unet, noisy, steps, context, bias, pooled, size_ids(rng, size)).float()
        loss = (weight * ((out - noise) ** 2).mean((1, 2, 3))).mean()
        running.add(loss.item())
        return loss + 0.02 * named, f"loss {running:.4f} named {hit.item():.2f}"

    train(step, clock, optimiser, checkpoint, args.rate, average=average, shown=50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=("names", "adapter"))
    parser.add_argument("--minutes", type=float, default=15, help="training time in all, over every start")
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    start()
    (train_names if args.phase == "names" else train_adapter)(args)


if __name__ == "__main__":
    main()
