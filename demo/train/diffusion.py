"""Train text encoder and UNet together, from nothing, with Kolors' own schedule.

    torchrun --nproc-per-node 2 demo/train/diffusion.py [--minutes 60]

Needs the trained autoencoder. Latents of many layouts of every training pair are computed once. A tenth of the captions
is empty, so that guidance works. Loss: of the noise, weighted by 1 + sigma^2 up to a limit, so that the steps of high
noise, where emoji and colour are decided, count as much as the rest.

Source of the UNet's shape: ``unet/config.json`` of Kwai-Kolors/Kolors; of the schedule: its scheduler_config.json.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator

import numpy
import torch
from autoencoder import Trainee, fold
from common import PROCESSES, RANK, WORK, Average, Checkpoint, Clock, Running, autocast, log, start, train
from data import COLOUR_NAMES, EMOJI, NEUTRAL, TEMPLATES, caption, render, sample_layout, training_pairs
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from text import HIDDEN, build_encoder, encode_short, load_tokenizer, tokenize
from torch import Tensor, nn

from kolors_core.sampling.schedule import BETA_END, BETA_START, TRAIN_STEPS

CHANNELS = (64, 128, 64)
CONTEXT = 128
LAYOUTS = 20  # per training pair
BATCH = 64
WORDS_FIRST = 300  # steps that only teach the encoder its words
TRAINING_PAIRS = training_pairs()
SIZE_IDS = (128.0, 128.0, 0.0, 0.0, 128.0, 128.0)  # height, width, crop top and left, target height and width


def build_unet() -> UNet2DConditionModel:
    """Kolors' topology: three levels, none with attention in the first, heads of 64."""
    unet = UNet2DConditionModel(
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=2,
        transformer_layers_per_block=1,
        attention_head_dim=tuple(channels // 64 for channels in CHANNELS),  # diffusers means the number of heads
        cross_attention_dim=CONTEXT,
        encoder_hid_dim=HIDDEN,
        encoder_hid_dim_type="text_proj",
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=HIDDEN + 6 * 256,
    )
    unet.set_attn_processor(AttnProcessor())  # plain products: for 64 rows and fewer quicker than the fused kernel
    return unet


def diffusion_parts(encoder: nn.Module, unet: nn.Module) -> nn.ModuleDict:
    """What is trained together; the namer is the linear layer of `naming_loss`."""
    namer = nn.Linear(HIDDEN, len(EMOJI) + len(COLOUR_NAMES))
    return nn.ModuleDict({"encoder": encoder, "unet": unet, "namer": namer})


def alphas() -> Tensor:
    """Cumulated alphas (1100,) of Kolors' schedule."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def load_autoencoder():
    """The trained autoencoder, normalisation folded in; with the better decoder, where that was trained."""
    model = Trainee()
    better = WORK / "decoder.pt"
    state = torch.load(better if better.is_file() else WORK / "autoencoder.pt", weights_only=True)
    model.load_state_dict(state["model"])
    return fold(model).eval()


def load_diffusion(encoder, unet) -> None:
    """Put the trained, averaged weights into both."""
    shadow = torch.load(WORK / "diffusion.pt", weights_only=True)["average"]["shadow"]
    for name, module in (("encoder.", encoder), ("unet.", unet)):
        module.load_state_dict({k.removeprefix(name): v for k, v in shadow.items() if k.startswith(name)})


@torch.no_grad()
def encode_images(vae, images: numpy.ndarray) -> Tensor:
    """Images uint8 (n, h, w, 3) -> latents (n, 4, h/8, w/8), float32."""
    out = []
    for part in torch.from_numpy(images).split(64):
        pixels = (part.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)
        with autocast():
            out.append(vae.encoder.layers(pixels).float())
    return torch.cat(out)


class Latents:
    """Latents of training pairs in many layouts; computed at the first use, then read from the work folder.

    Of several processes each has its share of the pairs.
    """

    def __init__(self):
        path = WORK / f"latents-{RANK}-of-{PROCESSES}.pt"
        self.pairs = training_pairs()[RANK::PROCESSES]
        if not path.is_file():
            vae = load_autoencoder().to(memory_format=torch.channels_last)
            rng = random.Random(5 + RANK)
            latents, words = [], []
            for number, (index, colour) in enumerate(self.pairs):
                layouts = [sample_layout(rng) for _ in range(LAYOUTS)]
                latents.append(
                    encode_images(vae, numpy.stack([render(index, colour, each) for each in layouts])).half()
                )
                words.append([layout.word for layout in layouts])
                if number % 50 == 0:
                    log(f"latents of {number} of {len(self.pairs)} pairs")
            torch.save({"latents": torch.stack(latents), "words": words}, path)
        state = torch.load(path, weights_only=True)
        self.latents: Tensor = state["latents"]  # (pairs, layouts, 4, 16, 16)
        self.words: list[list[str]] = state["words"]

    def batch(self, rng: random.Random, size: int) -> tuple[Tensor, list[tuple[int, str, str]]]:
        """Latents (size, 4, 16, 16), and of each its emoji, colour and the caption's word for the layout."""
        rows = [(rng.randrange(len(self.pairs)), rng.randrange(LAYOUTS)) for _ in range(size)]
        latents = torch.stack([self.latents[pair, layout] for pair, layout in rows]).float()
        return latents, [(*self.pairs[pair], self.words[pair][layout]) for pair, layout in rows]


def size_ids(rng: random.Random, size: int) -> Tensor:
    """Size conditioning (size, 6): that of the pictures, for some any other, so that a foreign size does no harm."""
    rows = []
    for _ in range(size):
        if rng.random() < 0.1:
            height, width = (float(64 * rng.randint(1, 16)) for _ in range(2))
            rows.append((height, width, 0.0, 0.0, height, width))
        else:
            rows.append(SIZE_IDS)
    return torch.tensor(rows)


def predict(
    unet, noisy: Tensor, steps: Tensor, context: Tensor, bias: Tensor | None, pooled: Tensor, ids: Tensor, **more
):
    """The UNet's output; bias (b, rows) is added to the cross attention's scores."""
    # diffusers turns a mask m into the bias (1 - m) * -10000, so this m arrives as `bias`
    mask = None if bias is None else 1 + bias / 10000
    conditions = {"text_embeds": pooled, "time_ids": ids, **more}
    return unet(noisy, steps, context, encoder_attention_mask=mask, added_cond_kwargs=conditions).sample


def noisy_batch(latents: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Steps spread evenly over the schedule. Returns noisy latents, noise, steps (b,) and loss weights (b,)."""
    size = latents.shape[0]
    steps = ((torch.arange(size) + torch.rand(size)) / size * TRAIN_STEPS).long().clamp(max=TRAIN_STEPS - 1)
    steps = steps[torch.randperm(size)]
    alpha = table[steps][:, None, None, None]
    noise = torch.randn_like(latents)
    weight = (1 / alpha).clamp(max=20).flatten()  # 1 + sigma^2
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, noise, steps, weight / 4


def captions(rng: random.Random, rows: list[tuple[int, str, str]]) -> Iterator[str]:
    """A caption for each row, in either language; a tenth is empty or says nothing of the picture."""
    for index, colour, word in rows:
        kind = rng.random()
        if kind < 0.1:
            yield "" if kind < 0.08 else rng.choice(list(NEUTRAL.values()))
        else:
            said = word if rng.random() < 0.85 else ""
            yield caption(EMOJI[index], colour, rng.choice(("zh", "en")), rng, said)


def naming_loss(encoder, namer: nn.Linear, tokenizer, rng: random.Random, size: int) -> Tensor:
    """How well a linear layer names emoji and colour of `size` captions from their pooled state.

    The diffusion loss alone tells the encoder's words apart slowly: every emoji looks alike under much noise.
    """
    chosen = [rng.choice(TRAINING_PAIRS) for _ in range(size)]
    texts = [
        caption(EMOJI[index], colour, language, rng, template=rng.randrange(len(TEMPLATES[language])))
        for index, colour in chosen
        for language in (rng.choice(("zh", "en")),)
    ]
    *_, pooled = encode_short(encoder, [tokenize(tokenizer, text) for text in texts])
    logits = namer(pooled).float()
    emoji = torch.tensor([index for index, _ in chosen])
    colours = torch.tensor([COLOUR_NAMES.index(colour) for _, colour in chosen])
    first, second = logits.split((len(EMOJI), len(COLOUR_NAMES)), dim=-1)
    return nn.functional.cross_entropy(first, emoji) + nn.functional.cross_entropy(second, colours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="training time in all, over every start")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    args = parser.parse_args()
    start()
    torch.manual_seed(0)
    tokenizer = load_tokenizer()
    encoder, unet = build_encoder(tokenizer), build_unet()
    both = diffusion_parts(encoder, unet)
    average = Average(both, 0.998)
    optimiser = torch.optim.AdamW(both.parameters(), lr=args.rate, weight_decay=0.01, betas=(0.9, 0.98))
    checkpoint = Checkpoint("diffusion", model=both, average=average, optimiser=optimiser)
    data = Latents()
    clock = Clock(args.minutes, checkpoint.load())
    rng, running = clock.seed(), Running(0.99)
    size, table = BATCH // PROCESSES, alphas()

    def step() -> tuple[Tensor, str]:
        with autocast():
            named = naming_loss(encoder, both["namer"], tokenizer, rng, size)
        if clock.step < WORDS_FIRST:
            loss = named
        else:
            latents, rows = data.batch(rng, size)
            noisy, noise, steps, weight = noisy_batch(latents, table)
            prompts = [tokenize(tokenizer, text) for text in captions(rng, rows)]
            with autocast():
                context, bias, pooled = encode_short(encoder, [*prompts, tokenize(tokenizer, "")])
                # some see the words in cross attention alone, which is where an IP-Adapter will speak
                mute = torch.rand(size, 1) < 0.15
                pooled = torch.where(mute, pooled[-1:], pooled[:-1])
                out = predict(unet, noisy, steps, context[:-1], bias[:-1], pooled, size_ids(rng, size)).float()
            loss = (weight * ((out - noise) ** 2).mean((1, 2, 3))).mean()
            running.add(loss.item())
            loss = loss + 0.02 * named
        return loss, f"loss {running:.4f} names {named.item():.3f}"

    train(step, clock, optimiser, checkpoint, args.rate, warmup=300, average=average)


if __name__ == "__main__":
    main()
