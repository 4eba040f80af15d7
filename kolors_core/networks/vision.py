"""What a CLIP vision encoder of Kolors sees of an image: the reference's preprocessing, with its own resize.

Source: transformers' ``CLIPImageProcessor`` on Pillow with ``size=336, crop_size=336``, as in the samples of
Kwai-Kolors/Kolors.
"""

from __future__ import annotations

import numpy
import torch
from PIL import Image
from torch import Tensor

IMAGE_SIZE = 336  # pixels along a side
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def to_pil(image: Tensor) -> Image.Image:
    """One image (height, width, 3 or 4) of 0..1 as 8-bit RGB; an alpha channel is left out."""
    return Image.fromarray((image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy(), "RGB")


def from_pil(image: Image.Image) -> Tensor:
    """(height, width, 3) float32 of 0..1."""
    return torch.as_tensor(numpy.array(image)).float() / 255


def center_square(image: Image.Image, size: int = IMAGE_SIZE) -> Image.Image:
    """The middle of an image whose shorter side was made `size` pixels long (bicubic)."""
    shorter = min(image.size)
    width, height = (size if side == shorter else int(size * side / shorter) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


def pixel_values(images: Tensor) -> Tensor:
    """Images (i, height, width, 3 or 4) of 0..1 for the vision encoder: (i, 3, 336, 336) float32, normalised."""
    squares = torch.stack([from_pil(center_square(to_pil(image))) for image in images])
    return ((squares - torch.tensor(MEAN)) / torch.tensor(STD)).movedim(-1, 1)
