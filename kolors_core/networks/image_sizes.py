"""Sizes to draw at: those of SDXL's training, around one megapixel in steps of 64 pixels.

Kolors has SDXL's UNet. Its own repository lists no training sizes: its examples draw at 1024 x 1024, the one for
inpainting at 768 x 1024, and its demo offers every multiple of 64 from 128 to 2048.

Source: Podell et al., "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis" (2023), appendix I;
what lies between 5:2 and 2:5, without 704 and 1344, a pair that it has in one direction only.
"""

from __future__ import annotations

import math

LANDSCAPE = (
    (1600, 640),
    (1536, 640),
    (1472, 704),
    (1408, 704),
    (1344, 768),
    (1280, 768),
    (1216, 832),
    (1152, 832),
    (1152, 896),
    (1088, 896),
    (1088, 960),
    (1024, 960),
)
SQUARE = (1024, 1024)


def label(width: int, height: int) -> str:
    """A size as it stands in the list of the node: `1152 x 896 (9:7)`."""
    divisor = math.gcd(width, height)
    return f"{width} x {height} ({width // divisor}:{height // divisor})"


#: Width and height in pixels by label, from wide to tall. Saved workflows hold the labels.
SIZES = {
    label(*size): size for size in (*LANDSCAPE, SQUARE, *((height, width) for width, height in reversed(LANDSCAPE)))
}


def nearest_size(width: int, height: int) -> tuple[int, int]:
    """The size that loses least of an image when it is scaled and cropped to it."""
    return min(SIZES.values(), key=lambda size: abs(math.log(width * size[1] / (height * size[0]))))
