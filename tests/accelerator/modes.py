"""The ways in which a host can use an accelerator, and a process that runs the cases in one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import compare
import torch

HERE = Path(__file__).resolve().parent
DEVICE = HERE / "device"
#: Everything in float32, on the device: `--force-fp32` would leave the text encoder on the CPU.
IN_FLOAT32 = ("--fp32-unet", "--fp32-text-enc", "--fp32-vae")
IN_BFLOAT16 = ("--bf16-unet", "--bf16-text-enc", "--bf16-vae")


@dataclass(frozen=True)
class Mode:
    name: str
    flags: tuple[str, ...] = IN_FLOAT32  # start options of the host
    device: str | None = "cuda"  # None: the CPU
    environment: dict[str, str] = field(default_factory=dict)
    tolerance: float = compare.FLOAT32
    refusal: str | None = None  # what an error begins with that the device has to raise
    since: tuple[int, int] = (0, 3)  # the oldest host that can be so

    def can_be_on(self, version: str) -> bool:
        """version: of the host."""
        return tuple(map(int, re.findall(r"\d+", version)[:2])) >= self.since


CPU = Mode("cpu", ("--cpu",), device=None)
MODES = (
    Mode("fp32"),
    Mode("half", (), tolerance=0.02),
    Mode("bf16", IN_BFLOAT16, tolerance=0.1),
    Mode("novram", (*IN_FLOAT32, "--novram")),
    Mode("lowvram", (*IN_FLOAT32, "--lowvram")),
    Mode("highvram", (*IN_FLOAT32, "--highvram")),
    Mode("partial", environment={"FAKE_VRAM_MB": "1224"}),  # the host keeps 1 GB and more free
    Mode("dynamic", environment={"AIMDO": "1"}, since=(0, 29)),
    Mode("dynamic-windows", environment={"AIMDO": "win"}, since=(0, 29)),
    Mode("xpu", device="xpu"),
    Mode("mps", device="mps", refusal=r"TypeError: Cannot convert a MPS Tensor to Float8"),
    Mode("rocm", device="rocm"),
)


def run(mode: Mode, folder: Path) -> dict[str, compare.Result]:
    """What each case gave; models, logs and results stay in `folder`, the base directory of the host."""
    output = folder / "results" / f"{mode.name}.pt"
    run_script(HERE / "matrix.py", mode, folder, output)
    return torch.load(output, weights_only=True)


def run_script(script: Path, mode: Mode, folder: Path, output: Path) -> None:
    """Run a script that takes the path of its output and the host's options. Raises RuntimeError where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **mode.environment}
    environment.pop("FAKE_DEVICE", None)
    if mode.device:
        paths = [str(DEVICE), *filter(None, [environment.get("PYTHONPATH")])]
        environment |= {"FAKE_DEVICE": mode.device, "PYTHONPATH": os.pathsep.join(paths)}
    output.parent.mkdir(parents=True, exist_ok=True)
    words = output.with_suffix(".txt")
    with words.open("wb") as stream:
        command = [sys.executable, script, output, "--base-directory", folder, *mode.flags]
        done = subprocess.run(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    if done.returncode:
        end = words.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise RuntimeError(f"{script.name} ended with exit code {done.returncode} in the mode {mode.name}:\n{end}")
