"""Which build of PyTorch pip is asked for.

On Linux the package index has a CUDA build, which needs 3 GB of libraries. A machine without an accelerator gets the
build for the CPU, from PyTorch's own index. Who has pointed pip at packages of their own gets those, untouched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CONNECT_SECONDS = 10.0
ROCM = Path("/opt/rocm")
POINTERS = ("index-url", "extra-index-url", "find-links", "no-index")  # of pip's settings


@dataclass(frozen=True)
class Build:
    """Options for pip, and what they bring, in words."""

    options: tuple[str, ...]
    says: str


def choose_build(python: Path) -> Build:
    """The build for this machine; `python` is the interpreter whose pip is asked."""
    found = accelerator()
    if found:
        return Build((), f"for {found}, " + ("about 100 MB" if sys.platform == "darwin" else "about 3,000 MB"))
    if pip_is_pointed(python):
        return Build((), "from where pip is pointed, about 200 MB if that is a build for the CPU")
    if not is_reachable(f"{CPU_INDEX}/torch/"):
        return Build((), f"for CUDA, about 3,000 MB, because {CPU_INDEX} cannot be reached")
    return Build(("--extra-index-url", CPU_INDEX), f"for the CPU from {CPU_INDEX}, about 200 MB")


def accelerator() -> str:
    """What torch could compute on beside the CPU, as far as can be seen without torch; empty if nothing."""
    if sys.platform == "darwin":
        return "macOS"
    if lists_devices("nvidia-smi", "-L"):
        return "NVIDIA"
    if lists_devices("rocminfo") or ROCM.exists():
        return "ROCm"
    return ""


def lists_devices(program: str, *options: str) -> bool:
    """Whether a driver's program is there and finds a device."""
    path = shutil.which(program)
    try:
        return bool(path and subprocess.run([path, *options], capture_output=True, timeout=20).returncode == 0)
    except (OSError, subprocess.TimeoutExpired):
        return False


def pip_is_pointed(python: Path) -> bool:
    """Whether pip's settings, in files or in the environment, name a place to take packages from."""
    done = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True)
    settings = [line.split("=")[0].split(".")[-1].replace("_", "-") for line in done.stdout.splitlines()]
    variables = [f"PIP_{name.upper().replace('-', '_')}" for name in POINTERS]
    return any(name in settings for name in POINTERS) or any(os.environ.get(name) for name in variables)


def is_reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False
