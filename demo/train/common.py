"""What the training scripts share: the work folder, checkpoints that survive an interruption, and the learning rate."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".dev" / "train"  # ignored by git
MODELS = ROOT / "demo" / "models"

WORK.mkdir(parents=True, exist_ok=True)
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # for kolors_core
RANK, PROCESSES = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
logging.basicConfig(
    level=logging.INFO if RANK == 0 else logging.WARNING,
    format="%(asctime)s %(message)s",
    handlers=[logging.StreamHandler(), logging.FileHandler(WORK / "log.txt")],
)
log = logging.getLogger("train").info
if PROCESSES > 1:
    distributed.init_process_group("gloo")


def autocast(enabled: bool = True):
    """bfloat16 where it is safe: several times quicker on a CPU with AMX."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


LONGEST = 5.0  # seconds that a step can count; the rest is a pause of the machine


class Clock:
    """Counts steps and training seconds over several starts; the learning rate follows the time spent.

    Processes agree on the time once a step, in `share_gradients`, so that all use the same rate and stop together.
    """

    def __init__(self, minutes: float, state: dict[str, float]):
        self.budget = minutes * 60
        self.step = int(state.get("step", 0))
        self.spent = state.get("spent", 0.0)  # seconds of training, earlier starts included
        self.last = self.saved = time.monotonic()

    def over(self) -> bool:
        return self.spent >= self.budget

    def share_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """End a step: average gradients and clocks over the processes. One thread in each of several processes waits
        far less on a busy machine than several threads of one, which meet after every operation."""
        self.step += 1
        now = time.monotonic()
        self.spent += min(now - self.last, LONGEST)
        self.last = now
        if PROCESSES == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([g.flatten() for g in gradients] + [torch.tensor([self.spent])])
        distributed.all_reduce(flat)
        flat /= PROCESSES
        self.spent = flat[-1].item()
        for parameter, part in zip(parameters, flat[:-1].split([g.numel() for g in gradients])):
            parameter.grad = part.view_as(parameter)

    def due(self, seconds: float) -> bool:
        """Whether a checkpoint is due; asking resets."""
        if time.monotonic() - self.saved < seconds:
            return False
        self.saved = time.monotonic()
        return True

    def rate(self, peak: float, warmup: int, floor: float = 0.02) -> float:
        """Linear warm-up over `warmup` steps, then a cosine over the time budget down to `floor` of the peak."""
        done = min(1.0, self.spent / self.budget)
        return peak * min(1.0, (self.step + 1) / warmup) * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


class Checkpoint:
    """A file in the work folder with the states of the given parts; written whole or not at all."""

    def __init__(self, name: str, **parts: Any):
        self.path = WORK / f"{name}.pt"
        self.parts = parts

    def load(self) -> dict[str, float]:
        """Restore what the file, if there is one, has of the parts; returns the clock's numbers."""
        if not self.path.is_file():
            return {}
        state = torch.load(self.path, weights_only=True)
        for name, part in self.parts.items():
            if name in state:
                part.load_state_dict(state[name])
        return state["clock"]

    def save(self, clock: Clock) -> None:
        if RANK:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state["clock"] = {"step": clock.step, "spent": clock.spent}
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)


class Average:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: torch.nn.Module, decay: float = 0.9995):
        self.module, self.decay, self.count = module, decay, 0
        self.shadow = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        state = self.module.state_dict()
        floating = [name for name, tensor in self.shadow.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.shadow[name] for name in floating], [state[name] for name in floating], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"shadow": self.shadow, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shadow, self.count = state["shadow"], state["count"]
