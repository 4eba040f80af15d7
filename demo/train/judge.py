"""Tell which emoji a picture shows and what colour is behind it, by comparing with the font's own pictures.

    python demo/train/judge.py      write those pictures to emoji.png, at half their size, so that judging needs no font

The colour is that of the picture's border. The emoji is the nearest rendered one in squared difference, over all emoji,
a set of sizes and all places near the middle, each rendered on the colour that was found. All places at once are one
correlation, which is a product of Fourier transforms; a coarse one over all emoji, then a fine one over the nearest.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy
import torch
from data import COLOUR_NAMES, COLOURS, EMOJI, Layout, glyph, place
from PIL import Image
from torch import Tensor
from torch.nn import functional

ATLAS = Path(__file__).with_name("emoji.png")
COLUMNS, CELL = 10, 52  # emoji in a row of the atlas; pixels of the larger side of each
SIZES = (54, 58, 62, 66, 92, 95, 98, 101, 104)  # of the emoji, in pixels
REACH = 32  # places up to so many pixels from the middle
SHORTLIST = 8  # emoji that the coarse comparison leaves to the fine one


def write_atlas() -> None:
    """Draw all emoji in their order, each in the upper left corner of its cell, as straight RGBA."""
    atlas = Image.new("RGBA", (COLUMNS * CELL, -(-len(EMOJI) // COLUMNS) * CELL))
    for index in range(len(EMOJI)):
        picture = glyph(index)
        picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
        atlas.paste(picture.convert("RGBA"), (index % COLUMNS * CELL, index // COLUMNS * CELL))
    atlas.save(ATLAS, optimize=True)


@cache
def _atlas() -> Image.Image:
    return Image.open(ATLAS).convert("RGBa")


def known_picture(index: int) -> Image.Image:
    """An emoji from the atlas, cut to its outline: RGBa (premultiplied), its larger side `CELL` pixels."""
    x, y = index % COLUMNS * CELL, index // COLUMNS * CELL
    cell = _atlas().crop((x, y, x + CELL, y + CELL))
    return cell.crop(cell.getchannel("a").getbbox())


def border_colour(pixels: Tensor) -> Tensor:
    """Median colour (3,) of the four-pixel border of a picture (3, h, w) in 0..1."""
    inner = torch.zeros(pixels.shape[1:], dtype=torch.bool)
    inner[4:-4, 4:-4] = True
    return pixels[:, ~inner].median(dim=1).values


def judge_colour(pixels: Tensor) -> str:
    """Name of the background colour nearest to the border's."""
    table = torch.tensor([COLOURS[name][0] for name in COLOUR_NAMES]) / 255
    return COLOUR_NAMES[int((table - border_colour(pixels)).square().sum(1).argmin())]


@cache
def _templates(colour: str, pool: int) -> tuple[Tensor, Tensor]:
    """Every picture less its background, averaged over `pool` pixels: transforms (emoji, sizes, 3, h, w / 2 + 1) and
    energies (emoji, sizes)."""
    rgb = torch.tensor(COLOURS[colour][0]) / 255
    stack = []
    for index in range(len(EMOJI)):
        picture = known_picture(index)
        for size in SIZES:
            front, alpha = (torch.from_numpy(part).permute(2, 0, 1) for part in place(picture, Layout(size, 64, 64)))
            stack.append(functional.avg_pool2d(front - rgb[:, None, None] * alpha, pool))
    pictures = torch.stack(stack).unflatten(0, (len(EMOJI), len(SIZES)))
    return torch.fft.rfft2(pictures), pictures.square().sum((2, 3, 4))


def _distances(difference: Tensor, colour: str, pool: int, among: Tensor | slice = slice(None)) -> Tensor:
    """Squared difference (emoji,) of the nearest size and place; `difference` (3, 128, 128) is without background."""
    transforms, energies = (part[among] for part in _templates(colour, pool))
    picture = functional.avg_pool2d(difference, pool)
    products = (torch.fft.rfft2(picture) * transforms.conj()).sum(2)
    products = torch.fft.irfft2(products, s=picture.shape[1:])  # (emoji, sizes, y, x)
    reach = REACH // pool
    near = torch.cat((torch.arange(-reach, 0), torch.arange(reach + 1)))
    products = products[..., near, :][..., near].amax((2, 3))
    return (energies + picture.square().sum() - 2 * products).amin(1) * pool**2


def judge_emoji(pixels: Tensor) -> tuple[int, float]:
    """Index of the nearest emoji, and its distance as a share of the picture's own energy (0 = the same picture)."""
    colour = judge_colour(pixels)
    difference = pixels - border_colour(pixels)[:, None, None]
    among = _distances(difference, colour, 4).topk(SHORTLIST, largest=False).indices
    fine = _distances(difference, colour, 2, among)
    return int(among[fine.argmin()]), float(fine.min() / difference.square().sum().clamp(min=1e-6))


def to_pixels(image: numpy.ndarray) -> Tensor:
    """Picture uint8 (h, w, 3) -> (3, h, w) in 0..1."""
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    write_atlas()
