"""Compiles device.cpp against the torch of this environment, into .dev/ at the repository's root.

Imports nothing but the standard library: torch must not be loaded before the device is.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

DEVICE = Path(__file__).resolve().parent.parent
ROOT = DEVICE.parents[2]
SOURCE = DEVICE / "device.cpp"
#: The dispatch key of torch that each kind of device fills.
KEYS = {"cuda": "CUDA", "rocm": "CUDA", "xpu": "XPU", "mps": "MPS", "npu": "PrivateUse1", "directml": "PrivateUse1"}


def compiler() -> str | None:
    return shutil.which(os.environ.get("CXX") or "g++") or shutil.which("clang++")


def reason_against() -> str | None:
    """Why this machine cannot have the device; None where it can."""
    if not sys.platform.startswith("linux"):
        return "the simulated device is built on Linux alone"
    if not compiler():
        return "no C++ compiler: install g++ or clang++, or set CXX"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "no headers of Python: Debian and Ubuntu have them in python3-dev"
    version = (torch_folder() / "version.py").read_text(encoding="utf-8")
    if any(f"{kind}: Optional[str] = '" in version for kind in ("cuda", "hip", "xpu")):
        return "this torch is built for a real accelerator; the simulated one needs a build for the CPU alone"
    return None


def torch_folder() -> Path:
    return Path(importlib.util.find_spec("torch").origin).parent


def module_name(kind: str) -> str:
    return f"fake_device_{KEYS[kind]}"


def library(kind: str) -> Path:
    """The extension module for a kind of device, compiled where it is not there yet (about 40 s).

    Raises RuntimeError with the compiler's words.
    """
    made_from = hashlib.sha256(SOURCE.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    versions = f"torch-{importlib.metadata.version('torch')}-{sys.implementation.cache_tag}"
    target = ROOT / ".dev" / "accelerator" / f"{versions}-{made_from}" / f"{module_name(kind)}.so"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}")  # renamed at the end: two processes may build at once
        done = subprocess.run(command(kind, part), capture_output=True, text=True, env=plain_environment())
        if done.returncode:
            raise RuntimeError(f"{SOURCE.name} does not compile against this torch:\n{done.stderr[-3000:]}")
        part.replace(target)
    return target


def command(kind: str, target: Path) -> list[str | Path]:
    torch, key = torch_folder(), KEYS[kind]
    includes = [torch / "include", torch / "include/torch/csrc/api/include", sysconfig.get_paths()["include"]]
    defines = [f"FAKE={key}", f"FAKE_IS_{key}", f"EXTENSION={module_name(kind)}", "TORCH_API_INCLUDE_EXTENSION_H"]
    return [
        *(compiler(), "-std=c++20", "-O1", "-g0", "-w", "-fPIC", "-shared", SOURCE, "-o", target),
        *(f"-D{define}" for define in defines),
        *(f"-I{folder}" for folder in includes),
        *(f"-L{torch / 'lib'}", f"-Wl,-rpath,{torch / 'lib'}"),
        *("-lc10", "-ltorch_cpu", "-ltorch_python", "-ltorch"),
    ]


def plain_environment() -> dict[str, str]:
    """Without the device, for a compiler may be a Python script."""
    return {key: value for key, value in os.environ.items() if key not in ("FAKE_DEVICE", "PYTHONPATH")}
