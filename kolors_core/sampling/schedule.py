"""The reference's noise schedules for Kolors, as plain functions of a preset and a number of steps.

A sigma is that of ComfyUI and of Karras et al. (2022): x = x0 + sigma * noise. The reference computes its tables in
float32, and so do these, to the last digit that matters. Source: diffusers' EulerDiscrete, EulerAncestralDiscrete,
DPMSolverMultistep, UniPCMultistep, DEISMultistep and LCM schedulers with Kolors' ``scheduler_config.json``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import KolorsError, shorten

TRAIN_STEPS = 1100
BETA_START, BETA_END = 0.00085, 0.014
STEPS_OFFSET = 1  # the first train step of a leading spacing
KARRAS_RHO = 7.0


@dataclass(frozen=True)
class Preset:
    """How one of the reference's schedulers lays out its steps.

    extra_step: the spacing divides the train steps by steps + 1 and leaves the last part out.
    karras: sigmas after Karras et al. over the whole table, instead of evenly spaced train steps.
    ends_at_zero: the last sigma is 0; else it is the smallest of the table.
    original_steps: the steps are taken out of so many even ones, those that a few-step model was distilled with.
    takes_timesteps: train steps of the user's own may stand in the place of the spacing.
    """

    extra_step: bool = True
    karras: bool = False
    ends_at_zero: bool = True
    original_steps: int = 0
    takes_timesteps: bool = False


PRESETS = {
    "euler": Preset(extra_step=False, takes_timesteps=True),
    "euler_ancestral": Preset(extra_step=False),
    "dpmpp_2m": Preset(takes_timesteps=True),
    "dpmpp_2m_karras": Preset(karras=True),
    "dpmpp_2m_sde_karras": Preset(karras=True),
    "unipc": Preset(),
    "deis": Preset(ends_at_zero=False),
    "lcm": Preset(extra_step=False, original_steps=50, takes_timesteps=True),
}


def train_sigmas() -> Tensor:
    """Sigma of each train step, (1100,) float32, rising from 0.029 to 29.06: the scaled-linear betas of Kolors."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float32) ** 2
    alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
    return ((1.0 - alphas_cumprod) / alphas_cumprod) ** 0.5


def timesteps(preset: str, steps: int, table: Tensor | None = None) -> Tensor:
    """Train steps that a full run visits, (steps,) int64, falling.

    table: sigmas of the train steps, rising; Kolors' own by default. Raises KolorsError for more steps than there are.
    """
    levels = train_sigmas() if table is None else table
    kind = PRESETS[preset]
    if kind.karras:
        return nearest_timesteps(karras_sigmas(steps, levels), levels)
    first = int(kind.extra_step)
    most = kind.original_steps or len(levels) - first
    if not 1 <= steps <= most:
        raise KolorsError(f"{preset} has 1 to {most} steps, not {steps}. Set steps within that range.")
    if kind.original_steps:
        original = torch.arange(kind.original_steps, 0, -1) * (len(levels) // kind.original_steps) - 1
        return original[(torch.arange(steps, dtype=torch.float64) * (kind.original_steps / steps)).long()]
    ratio = len(levels) // (steps + first)
    return torch.arange(first, steps + first).flip(0) * ratio + STEPS_OFFSET


def sigmas(preset: str, steps: int, strength: float = 1.0, table: Tensor | None = None, own: str = "") -> Tensor:
    """Sigmas of a run, falling, with the last one it ends at: (kept steps + 1,) float32.

    strength: the reference's rule of image to image, see `kept_steps`. An empty tensor where no step is kept.
    own: train steps to visit as `parse_timesteps` reads them, in the place of the preset's and of `steps`.
    """
    levels = train_sigmas() if table is None else table
    kind = PRESETS[preset]
    if own.strip():
        visited = levels[parse_timesteps(own, preset, len(levels))]
    elif kind.karras:
        visited = karras_sigmas(steps, levels).float()
    else:
        visited = _at(levels, timesteps(preset, steps, levels))
    end = levels.new_zeros(1) if kind.ends_at_zero else levels[:1]
    kept = kept_steps(len(visited), strength)
    return torch.cat((visited, end))[len(visited) - kept :] if kept else levels.new_empty(0)


def parse_timesteps(text: str, preset: str, train_steps: int) -> list[int]:
    """Train steps that a user wrote, falling, separated by commas or blanks.

    Raises KolorsError where the preset's scheduler takes none, and for all but falling whole numbers of the table.
    """
    if not PRESETS[preset].takes_timesteps:
        able = ", ".join(name for name, kind in PRESETS.items() if kind.takes_timesteps)
        raise KolorsError(
            f"{preset} takes no timesteps: diffusers' scheduler lays them out itself. Expected one of {able}. Choose "
            "one of these, or leave timesteps empty."
        )
    words = [word for word in re.split(r"[\s,，、]+", text) if word]
    found = [int(word) if re.fullmatch("[0-9]{1,9}", word) else -1 for word in words]
    falling = all(one > other for one, other in pairwise(found))
    if not found or not falling or not 0 <= min(found) <= max(found) < train_steps:
        shown = shorten(word[:20] for word in words) or "without a number"
        raise KolorsError(
            f"The input timesteps is {shown}. Expected whole numbers that fall, from at "
            f"most {train_steps - 1} to at least 0, such as 999, 749, 499, 249. Correct it, or leave it empty."
        )
    return found


def _at(table: Tensor, timestep: Tensor) -> Tensor:
    """Sigmas of train steps; with as many steps as the table has, the offset leaves it at the top, where it is held."""
    return table[timestep.clamp(max=len(table) - 1)]


def kept_steps(steps: int, strength: float) -> int:
    """Steps that image to image runs at a strength of 0..1: the last int(steps * strength) of the schedule."""
    return min(int(steps * strength), steps)


def karras_sigmas(steps: int, table: Tensor) -> Tensor:
    """Karras et al. (2022), eq. 5, from the table's largest to its smallest sigma, (steps,) float64."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = table[0].double() ** (1 / KARRAS_RHO), table[-1].double() ** (1 / KARRAS_RHO)
    return (high + ramp * (low - high)) ** KARRAS_RHO


def nearest_timesteps(sigma: Tensor, table: Tensor) -> Tensor:
    """The train steps of sigmas that lie between them: linear in log sigma, rounded to the nearest; int64."""
    log_table, log_sigma = table.double().log(), sigma.double().log()
    high = torch.searchsorted(log_table, log_sigma).clamp(1, len(table) - 1)
    low_log, high_log = log_table[high - 1], log_table[high]
    share = ((log_sigma - low_log) / (high_log - low_log)).clamp(0, 1)
    return (high - 1 + share).round().long()
