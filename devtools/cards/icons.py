"""The drawings of diagrams, and smooth shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

SCALE = 3  # shapes are drawn so many times as large: Pillow does not smooth them
SKIN, GREY, LIGHT, PALE = (236, 196, 160), (92, 98, 110), (150, 156, 168), (235, 238, 245)
BLACK = (12, 12, 14)
FACE = (
    (SKIN, "ellipse", 0.34, 0.22, 0.66, 0.62),
    ((60, 45, 40), "ellipse", 0.42, 0.37, 0.455, 0.42),
    ((60, 45, 40), "ellipse", 0.545, 0.37, 0.58, 0.42),
    ((190, 90, 90), "ellipse", 0.45, 0.5, 0.55, 0.535),
)
SUNSET = (255, 138, 76), (255, 214, 110), (134, 66, 140), (66, 34, 92)


def landscape(sky: Colour, sun: Colour, far: Colour, near: Colour, inside: Colour | None = None) -> tuple:
    """A sun over two hills; `inside` leaves of each its outline."""
    shapes = (
        (sun, "ellipse", 0.56, 0.14, 0.84, 0.42),
        (far, "polygon", 0.0, 0.62, 0.34, 0.34, 0.74, 0.72, 1.0, 0.52, 1.0, 1.1, 0.0, 1.1),
        (near, "polygon", 0.0, 0.8, 0.6, 0.66, 1.0, 0.84, 1.0, 1.1, 0.0, 1.1),
    )
    if inside is None:
        return sky, *shapes
    small = (0.59, 0.17, 0.81, 0.39), (0.0, 0.66, 0.34, 0.385, 0.73, 0.765, 1.0, 0.57, 1.0, 1.1, 0.0, 1.1)
    small += ((0.0, 0.835, 0.6, 0.695, 1.0, 0.875, 1.0, 1.1, 0.0, 1.1),)
    inner = [(inside, kind, *places) for (_, kind, *_), places in zip(shapes, small)]
    return sky, *(each for pair in zip(shapes, inner) for each in pair)


#: The drawings of diagrams: the ground, then colour, shape and places in parts of the side.
ICONS = {
    "face": ((58, 62, 72), ((120, 150, 205), "ellipse", 0.14, 0.68, 0.86, 1.5), *FACE),
    "portrait": (
        (36, 46, 84),
        (PALE, "ellipse", 0.12, 0.66, 0.88, 1.5),
        (PALE, "ellipse", 0.2, 0.1, 0.8, 0.74),
        ((70, 90, 140), "ellipse", 0.26, 0.16, 0.74, 0.66),
        *FACE,
    ),
    # a sheet with lines of text
    "page": (
        (58, 62, 72),
        (PALE, "rectangle", 0.2, 0.1, 0.8, 0.9),
        *((GREY, "rectangle", 0.28, 0.2 + 0.08 * n, 0.72 - 0.12 * (n % 3 == 2), 0.235 + 0.08 * n) for n in range(8)),
    ),
    # a sheet with a corner turned down
    "file": (
        (58, 62, 72),
        (PALE, "polygon", 0.26, 0.1, 0.6, 0.1, 0.78, 0.28, 0.78, 0.9, 0.26, 0.9),
        (LIGHT, "polygon", 0.6, 0.1, 0.78, 0.28, 0.6, 0.28),
        ((150, 200, 255), "rectangle", 0.36, 0.46, 0.68, 0.52),
        ((150, 200, 255), "rectangle", 0.36, 0.6, 0.6, 0.66),
    ),
    "outlines": landscape(BLACK, PALE, PALE, PALE, BLACK),
    "depth": landscape((30, 30, 30), (70, 70, 70), (130, 130, 130), (225, 225, 225)),
    "style": (SUNSET[0], *((colour, "rectangle", 0.25 * n, 0, 0.25 * n + 0.25, 1) for n, colour in enumerate(SUNSET))),
    "layout": landscape((58, 62, 72), LIGHT, (110, 116, 128), GREY),
    "both": landscape(*SUNSET),
}


def shape(size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw], object]) -> Image.Image:
    """A smooth mask of what `draw` draws on a canvas `SCALE` times as large."""
    large = Image.new("L", (size[0] * SCALE, size[1] * SCALE))
    draw(ImageDraw.Draw(large))
    return large.resize(size, Image.Resampling.LANCZOS)


def icon(name: str, side: int) -> Image.Image:
    """A drawing of a diagram, by shapes of `ICONS`."""
    ground, *shapes = ICONS[name]
    image = Image.new("RGB", (side, side), ground)
    for colour, kind, *places in shapes:

        def draw(canvas: ImageDraw.ImageDraw, kind: str = kind, places: Sequence[float] = places) -> None:
            getattr(canvas, kind)([place * side * SCALE for place in places], fill=255)

        image.paste(colour, mask=shape((side, side), draw))
    return image
