"""Measure the exported files: does it draw what the caption says?

    python demo/train/evaluate.py judge       the judge itself, on real pictures
    python demo/train/evaluate.py text        held-out captions in both languages, and the control without a prompt
    python demo/train/evaluate.py adapter     pictures as prompts
    python demo/train/evaluate.py random      a sheet of random prompts, to look at

Options: --models FOLDER, --guidance 4, --count 200. Seeds are fixed. Sheets of the pictures go to .dev/train.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy
from common import MODELS, WORK, log, start
from data import COLOUR_NAMES, EMOJI, NEUTRAL, SIDE, caption, held_out, render, sample_layout, test_captions
from judge import judge_colour, judge_emoji, to_pixels
from PIL import Image
from pipeline import Pipeline

BATCH = 50
CHANCE = 1 / len(EMOJI)


def sheet(name: str, images: Sequence[numpy.ndarray], columns: int = 20) -> None:
    """Save pictures side by side."""
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for place, image in enumerate(images):
        canvas.paste(Image.fromarray(image), (place % columns * SIDE, place // columns * SIDE))
    canvas.save(WORK / name)


def score(title: str, images: Sequence[numpy.ndarray], wanted: Sequence[tuple[int, str]]) -> tuple[float, float]:
    """Log and return the shares of right emoji and right backgrounds."""
    emoji, colours, wrong = 0, 0, Counter()
    for image, (index, colour) in zip(images, wanted):
        pixels = to_pixels(image)
        found = judge_emoji(pixels)[0]
        emoji += found == index
        colours += judge_colour(pixels) == colour
        if found != index:
            wrong[f"{EMOJI[index].character}>{EMOJI[found].character}"] += 1
    count = len(images)
    log(f"{title}: emoji {emoji / count:.1%}, background {colours / count:.1%} of {count}")
    log(f"  most confused: {dict(wrong.most_common(12))}")
    return emoji / count, colours / count


def draw(pipeline: Pipeline, prompts: Sequence[str], seed: int, images=None, **options) -> list[numpy.ndarray]:
    """Pictures of all prompts, in batches; the n-th has the seed `seed` + n."""
    out: list[numpy.ndarray] = []
    for first in range(0, len(prompts), BATCH):
        part = slice(first, first + BATCH)
        seeds = range(seed + first, seed + first + len(prompts[part]))
        out += list(pipeline.draw(prompts[part], seeds, images=None if images is None else images[part], **options))
    return out


def judge_judge() -> None:
    """Real pictures of random layouts with a little noise."""
    rng, noise = random.Random(3), numpy.random.default_rng(3)
    wanted = [(index, rng.choice(COLOUR_NAMES)) for index in range(len(EMOJI)) for _ in range(3)]
    images = [render(*pair, sample_layout(rng)) for pair in wanted]
    images = [(image + noise.normal(0, 10, image.shape)).clip(0, 255).astype(numpy.uint8) for image in images]
    score("real pictures", images, wanted)


def judge_text(args) -> None:
    """Held-out captions, then the control: the same without prompt and guidance."""
    pipeline = Pipeline(args.models, adapter=False)
    for language in ("zh", "en"):
        tests = test_captions(language, args.count)
        wanted = [(index, colour) for index, colour, _ in tests]
        images = draw(pipeline, [text for *_, text in tests], 1000, guidance=args.guidance, steps=args.steps)
        score(f"{language}, guidance {args.guidance}", images, wanted)
        sheet(f"held-out-{language}.png", images)
    images = draw(pipeline, [""] * len(wanted), 1000, guidance=1.0, steps=args.steps)
    score(f"control, no prompt, guidance 1 (chance {CHANCE:.1%})", images, wanted)
    sheet("control.png", images)


def judge_adapter(args) -> None:
    """A picture and a neutral prompt; half of the pictures are of pairs that training never showed."""
    pipeline = Pipeline(args.models)
    rng = random.Random(21)
    hidden = sorted(held_out())
    wanted = [*hidden[: args.count // 2]]
    while len(wanted) < args.count:
        wanted.append((rng.randrange(len(EMOJI)), rng.choice(COLOUR_NAMES)))
    references = [render(*pair, sample_layout(rng)) for pair in wanted]
    prompts = [NEUTRAL["zh"] if number % 2 else NEUTRAL["en"] for number in range(len(wanted))]
    options = {"guidance": args.guidance, "steps": args.steps}
    images = draw(pipeline, prompts, 5000, references, **options)
    score(f"adapter, neutral prompt, guidance {args.guidance}", images, wanted)
    sheet("adapter.png", [each for pair in zip(references, images) for each in pair])
    few = slice(0, args.count // 4)
    images = draw(pipeline, prompts[few], 5000, references[few], weight=0.0, **options)
    score(f"control, weight 0 (chance {CHANCE:.1%})", images, wanted[few])
    half = slice(0, args.count, 2)
    recoloured = [
        (index, rng.choice([name for name in COLOUR_NAMES if name != colour])) for index, colour in wanted[half]
    ]
    prompts = [f"{colour} background" for _, colour in recoloured]
    images = draw(pipeline, prompts, 7000, references[half], **options)
    score("adapter, prompt tells another background", images, recoloured)
    sheet("adapter-background.png", [each for pair in zip(references[half], images) for each in pair])


def draw_random(args) -> None:
    """Forty prompts of any kind, sizes and sides included; nothing is picked."""
    rng = random.Random(99)
    prompts = []
    for number in range(40):
        emoji, colour, word = (
            rng.choice(EMOJI),
            rng.choice(COLOUR_NAMES),
            rng.choice(("", "", "small", "left", "right")),
        )
        prompts.append(caption(emoji, colour, "zh" if number % 2 else "en", rng, word))
    for prompt in prompts:
        log(prompt)
    images = draw(Pipeline(args.models, adapter=False), prompts, 300, guidance=args.guidance, steps=args.steps)
    sheet("random.png", images, columns=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("judge", "text", "adapter", "random"))
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    start()
    if args.what == "judge":
        judge_judge()
    else:
        {"text": judge_text, "adapter": judge_adapter, "random": draw_random}[args.what](args)


if __name__ == "__main__":
    main()
