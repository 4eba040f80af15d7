"""The guidance scale as an input of a distilled UNet, which needs no second call for a negative prompt then.

Sources: Meng et al., "On Distillation of Guided Diffusion Models" (2023); ``get_guidance_scale_embedding`` of
diffusers' ``pipeline_kolors.py``, ``cond_proj`` of its ``TimestepEmbedding``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

SMALLEST_WIDTH = 4  # two frequencies: the formula divides by their number less one
MAX_PERIOD = 10000.0
SCALE = 1000.0


def guidance_embedding(guidance: float, width: int) -> Tensor:
    """Sines and cosines of a guidance scale, (1, width) float32; the last of an odd width is zero.

    A scale of 1, which is no guidance, is where the phases start. They reach thousands of radians, so every rounding
    counts: these are the reference's, which computes them on the CPU.
    """
    frequencies = width // 2
    step = torch.log(torch.tensor(MAX_PERIOD)) / (frequencies - 1)
    phases = torch.tensor([[guidance - 1.0]]) * SCALE * torch.exp(torch.arange(frequencies).float() * -step)
    return pad(torch.cat((phases.sin(), phases.cos()), dim=1), (0, width % 2))
