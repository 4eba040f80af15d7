"""The trained miniature draws what it is asked for: the workflow of `dev.py demo` on a real server, fixed seeds.

The judge compares with the font's pictures, and asks no network. `demo/train/evaluate.py` does the same at length.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import data
import judge
import numpy
import pytest
from comfyui_kolors.devtools.demo import build_prompt
from comfyui_kolors.devtools.miniature import make_tower
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress
from PIL import Image

pytestmark = pytest.mark.host

COUNT, FIRST_SEED = 6, 1000
STEPS, SIZE = 25, (data.SIDE, data.SIDE)


@pytest.fixture(scope="module")
def draw(server):
    """Draws with the miniature: (caption, seed, changes of the sampler's inputs) -> uint8 (batch, 128, 128, 3)."""
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), server.base)
    for folder in ("models/clip_vision", "input"):
        (server.base / folder).mkdir(parents=True, exist_ok=True)
    make_tower(setup, Progress(1))

    def draw(text: str, seed: int, image: str | None = None, batch_size: int = 1, **sampling) -> numpy.ndarray:
        prompt = build_prompt(text, "", seed, STEPS, SIZE, image)
        prompt["sample"]["inputs"] |= sampling
        prompt["size"]["inputs"]["batch_size"] = batch_size
        files = server.saved_files(server.run(prompt), ("save", 0), "images")
        return numpy.stack([numpy.asarray(Image.open(file)) for file in files])

    return draw


def judged(image: numpy.ndarray) -> tuple[int, str]:
    """The nearest emoji and the nearest background."""
    pixels = judge.to_pixels(image)
    return judge.judge_emoji(pixels)[0], judge.judge_colour(pixels)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_held_out_captions_are_drawn(draw, language):
    """Pairs of emoji and background that training never showed; all of them right."""
    asked = data.test_captions(language, COUNT)
    found = [judged(*draw(text, FIRST_SEED + number)) for number, (*_, text) in enumerate(asked)]
    assert found == [(index, colour) for index, colour, _ in asked]


def test_without_prompt_and_guidance_it_is_chance(draw):
    """Shows that the test above can fail. By chance 10 pictures have 0.1 right emoji and 1.3 right backgrounds."""
    asked = data.test_captions("zh", 10)
    found = [judged(image) for image in draw("", FIRST_SEED, batch_size=len(asked), cfg=1.0)]
    assert sum(emoji == index for (emoji, _), (index, *_) in zip(found, asked)) <= 2
    assert sum(background == colour for (_, background), (_, colour, _) in zip(found, asked)) <= 5


def test_a_picture_is_drawn_again(server, draw):
    """The picture alone says what to draw; a prompt then gives it another background."""
    index, colour = next(number for number, emoji in enumerate(data.EMOJI) if emoji.character == "🐧"), "pink"
    (reference,) = draw(f"{data.EMOJI[index].zh[0]}，{data.COLOURS[colour][1]}背景", seed=1)
    assert judged(reference) == (index, colour)
    Image.fromarray(reference).save(server.base / "input" / "reference.png")
    assert judged(*draw(data.NEUTRAL["zh"], seed=2, image="reference.png")) == (index, colour)
    assert judged(*draw("蓝色背景", seed=3, image="reference.png")) == (index, "blue")
