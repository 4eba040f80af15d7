"""The judge of the evaluation: it names the pictures that it knows, and needs no font for that."""

import random

import data
import judge
import numpy
import pytest
import torch

NO_FONT = "no NotoColorEmoji.ttf: install Debian's fonts-noto-color-emoji"


def picture(index: int, colour: str, layout: data.Layout, glyph=judge.known_picture) -> torch.Tensor:
    """(3, 128, 128) in 0..1 with a little noise."""
    front, alpha = data.place(glyph(index), layout)
    rgb = numpy.asarray(data.COLOURS[colour][0], dtype=numpy.float32) / 255
    noise = numpy.random.default_rng(index).normal(0, 0.04, front.shape)
    return torch.from_numpy(front + rgb * (1 - alpha) + noise).clamp(0, 1).permute(2, 0, 1).float()


@pytest.mark.parametrize("large", [1.0, 0.0], ids=["large", "small or at a side"])
def test_every_emoji_is_named_on_a_background_of_another_colour(large):
    rng = random.Random(0)
    wrong = []
    for index in range(len(data.EMOJI)):
        colour = rng.choice(("white", "blue"))
        pixels = picture(index, colour, data.sample_layout(rng, large))
        if (judge.judge_emoji(pixels)[0], judge.judge_colour(pixels)) != (index, colour):
            wrong.append(data.EMOJI[index].character)
    assert not wrong


@pytest.mark.parametrize("colour", data.COLOUR_NAMES)
def test_every_background_is_named(colour):
    assert judge.judge_colour(picture(0, colour, data.CENTRED)) == colour


def test_the_distance_tells_a_likeness_from_none():
    assert judge.judge_emoji(picture(3, "white", data.CENTRED))[1] < 0.1
    stripes = (torch.arange(128) // 8 % 2).float().expand(3, 128, 128).clone()
    stripes[:, :8], stripes[:, -8:], stripes[..., :8], stripes[..., -8:] = 1, 1, 1, 1
    assert judge.judge_emoji(stripes)[1] > 0.5


@pytest.mark.skipif(not data.FONT.is_file(), reason=NO_FONT)
@pytest.mark.parametrize("index", range(0, len(data.EMOJI), 8))
def test_the_fonts_own_pictures_are_named(index):
    assert judge.judge_emoji(picture(index, "white", data.CENTRED, data.glyph))[0] == index
