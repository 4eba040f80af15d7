"""What the training scripts share: the loop, the work folder, checkpoints that survive an interruption, the rate."""

from __future__ import annotations

import logging
import math
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".dev" / "train"  # ignored by git
MODELS = ROOT / "demo" / "models" / "kolors-demo"

if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # for kolors_core and demo
RANK, PROCESSES = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
log = logging.getLogger("train").info


def start() -> None:
    """What a script begins with: the work folder, the log in it, and the other processes that torchrun started."""
    WORK.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO if RANK == 0 else logging.WARNING,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(WORK / "log.txt")],
    )
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

    def seed(self) -> random.Random:
        """Seed torch, and a generator to draw with, other than in the starts before and in the other processes."""
        torch.manual_seed(self.step * PROCESSES + RANK)
        return random.Random(self.step * PROCESSES + RANK)

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


class Running:
    """Exponential mean of a figure, for the log."""

    def __init__(self, decay: float):
        self.decay, self.value = decay, None

    def add(self, value: float) -> None:
        self.value = value if self.value is None else self.decay * self.value + (1 - self.decay) * value

    def __format__(self, spec: str) -> str:
        return "-" if self.value is None else format(self.value, spec)


def train(
    step: Callable[[], tuple[Tensor, str]],
    clock: Clock,
    optimiser: torch.optim.Optimizer,
    checkpoint: Checkpoint,
    rate: float,
    warmup: int = 100,
    average: Average | None = None,
    shown: int = 100,
    saved: float = 120,
) -> None:
    """Steps until the clock's time is over.

    step: gives the loss of a batch, and words about it for the log. rate: the peak of the learning rate. average: is
    told of each step. shown: steps between two lines of the log. saved: seconds between two checkpoints.
    """
    name, words = checkpoint.path.stem, ""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    while not clock.over():
        for group in optimiser.param_groups:
            group["lr"] = clock.rate(rate, warmup)
        loss, words = step()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clock.share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if average:
            average.update()
        if clock.step % shown == 0:
            log(f"{name} step {clock.step} {clock.spent / 60:.1f} min {words}")
        if clock.due(saved):
            checkpoint.save(clock)
    checkpoint.save(clock)
    log(f"{name} done: {clock.step} steps, {clock.spent / 60:.1f} min, {words}; {time.asctime()}")
